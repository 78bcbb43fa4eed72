//! What is written is what is listed and read.

use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_s3::{S3Error, S3Settings};

use crate::common::{bucket_name, built, moto, read, test_bucket};

#[tokio::test]
async fn objects_are_listed_below_their_place_and_read_whole() {
    let test = test_bucket().await;
    let large: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
    let written: [(&str, Vec<u8>); 6] = [
        ("captured/shop/01/large.jsonl", large),
        ("captured/shop/01/empty.jsonl", vec![]),
        ("captured/shop/01/ü +%20#&=.jsonl", b"odd".to_vec()),
        ("captured/shop/01/notes.txt", b"no".to_vec()),
        ("captured/shop/02/other.jsonl", b"no".to_vec()),
        ("elsewhere/shop/01/x.jsonl", b"no".to_vec()),
    ];
    for (key, content) in &written {
        test.put(key, content.clone()).await;
    }
    let place = format!("s3://{}/captured/", test.name);
    let bucket = built(&S3Settings::of_test(&test.url), &place);
    assert_eq!(bucket.to_string(), place);
    let mut found = bucket.list("shop/01/", ".jsonl", 100).await.expect("listed");
    found.sort_by(|left, right| left.name.cmp(&right.name));
    let names: Vec<_> = found.iter().map(|object| (&*object.name, object.size)).collect();
    let expected = [
        ("shop/01/empty.jsonl", 0),
        ("shop/01/large.jsonl", 5_000_000),
        ("shop/01/ü +%20#&=.jsonl", 3),
    ];
    assert_eq!(names, expected);
    for (object, index) in found.iter().zip([1, 0, 2]) {
        let content = read(bucket.read(object)).await.expect("read");
        assert!(content == written[index].1, "{}", object.name);
    }
    assert!(bucket.has_any("shop/").await.expect("asked"));
    assert!(!bucket.has_any("garage/").await.expect("asked"));
    assert!(
        bucket.list("shop/", ".jsonl", 1).await.expect("listed").len() > 1,
        "too many are told"
    );
}

#[tokio::test]
async fn an_object_that_changed_since_it_was_listed_is_noticed() {
    let test = test_bucket().await;
    let bucket = built(&S3Settings::of_test(&test.url), &format!("s3://{}", test.name));
    for name in ["replaced", "grown", "shrunk", "removed", "begun"] {
        test.put(name, vec![b'x'; 2_000_000]).await;
    }
    let found = bucket.list("", "", 100).await.expect("listed");
    let object = |name: &str| found.iter().find(|found| found.name == name).expect("listed");
    let mut begun = bucket.read(object("begun"));
    let first = begun.next().await.expect("begun").expect("bytes");
    test.put("replaced", vec![b'y'; 2_000_000]).await;
    test.put("grown", vec![b'x'; 2_000_001]).await;
    test.put("shrunk", vec![b'x'; 10]).await;
    test.put("begun", vec![b'y'; 2_000_000]).await;
    test.remove("removed").await;
    for name in ["replaced", "grown", "shrunk", "removed"] {
        let error = read(bucket.read(object(name))).await.expect_err(name);
        assert!(matches!(error, S3Error::Changed { .. }), "{name}: {error:?}");
        assert_eq!(error.platform("reading").exit_class(), ExitClass::Transient);
    }
    // What has begun to come is of the object that was listed, to its end.
    let rest = read(begun).await.expect("read");
    assert!(first.iter().chain(&rest).all(|byte| *byte == b'x'));
    assert_eq!(first.len() + rest.len(), 2_000_000);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_a_mistake_of_the_configuration() {
    let name = bucket_name();
    let bucket = built(&S3Settings::of_test(&moto()), &format!("s3://{name}/captured"));
    let error = bucket.list("", "", 10).await.expect_err("no bucket");
    let expected = S3Error::NoBucket { system: format!("S3 at {}", moto()), bucket: name.clone() };
    assert_eq!(error, expected);
    let told = error.platform("listing");
    assert_eq!(told.exit_class(), ExitClass::Configuration);
    assert!(told.to_string().contains(&format!("no bucket `{name}`")), "{told}");
}
