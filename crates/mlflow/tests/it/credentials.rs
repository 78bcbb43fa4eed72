//! Who may: the server that asks for a password. It takes a second to check one, so the calls are few.

use std::sync::Arc;
use std::time::Duration;

use mloop_core::version::{aliases, files};
use mloop_core::{FixedClock, Secret};
use mloop_http::Credentials;
use mloop_mlflow::MlflowRegistry;
use mloop_platform::conformance::samples;
use mloop_platform::{ModelRegistry as _, PlatformError};
use mloop_services::Services;
use serde_json::json;

use crate::server::Bare;
use crate::{Place, service};

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: Secret::new(password) }
}

fn registry(url: &str, credentials: Credentials) -> MlflowRegistry {
    let service = service(url, Duration::from_secs(60), credentials);
    MlflowRegistry::new(service, Arc::new(FixedClock(samples::day_one())))
}

#[tokio::test]
async fn wrong_credentials_are_denied_and_never_shown() {
    let place = Place::new("wrong");
    let services = Services::running();
    let auth = services.mlflow_auth();
    let wrong = "hunter2-is-wrong";
    for credentials in
        [Credentials::None, basic(&auth.username, wrong), Credentials::Bearer(Secret::new(wrong))]
    {
        let denied = registry(&auth.url, credentials).versions(&place.model).await;
        let error = denied.expect_err("refused");
        assert!(matches!(error, PlatformError::Denied { .. }), "{error:?}");
        let told = format!("{error:?} {}", mloop_core::error_chain(&error));
        assert!(told.contains("401") && !told.contains(wrong), "{told}");
    }
}

/// The permissions that docs/how-to/mlflow.md names: an ordinary user registers and moves aliases of
/// what is his own; another one reads it and moves nothing.
#[tokio::test]
async fn users_need_the_rights_that_are_documented() {
    let place = Place::new("rights");
    let services = Services::running();
    let auth = services.mlflow_auth();
    let admin = Bare::with(&auth.url, basic(&auth.username, &auth.password));
    let password = "a-password-of-this-test";
    let [owner, reader] = ["owner", "reader"].map(|name| format!("{name}-{}", place.model));
    for username in [&owner, &reader] {
        let user = json!({ "username": username, "password": password });
        admin.post("users/create", &user).await;
    }
    let owner = registry(&auth.url, basic(&owner, password));
    // The server denies everything about a model that it does not know.
    assert_eq!(owner.alias(&place.model, aliases::CHAMPION).await.expect("an answer"), None);
    owner.remove_alias(&place.model, aliases::CHAMPION).await.expect("gone already");
    let wanted = place.with("weights", &[(files::WEIGHTS, "weights")]);
    let version = owner.register(&wanted).await.expect("a version");
    assert!(version.is_staging_ready());
    let set = owner.set_alias(&place.model, aliases::CHALLENGER, &version.version).await;
    set.expect("an alias of his own");

    let reader = registry(&auth.url, basic(&reader, password));
    let listed = reader.versions(&place.model).await.expect("a list");
    assert_eq!(listed, std::slice::from_ref(&version));
    let fetched = reader.fetch(&version, &place.path("fetched")).await;
    assert_eq!(fetched.expect("the files"), wanted.manifest);
    let denied = reader.set_alias(&place.model, aliases::CHAMPION, &version.version).await;
    let error = denied.expect_err("no right to edit");
    assert!(matches!(error, PlatformError::Denied { .. }), "{error:?}");
    let told = mloop_core::error_chain(&error);
    assert!(told.contains("it answered 403: Permission denied"), "{told}");
}
