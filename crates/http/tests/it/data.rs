//! Addresses that come from data, and secret ones.

use mloop_http::testing::{Reply, Server};
use mloop_http::{Client, DataUrl, HttpError, Method, Policy, Request, SecretUrl};

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_not_followed() {
    let server = Server::new(&[Reply::status(200)]);
    let port = server.address().rsplit_once(':').expect("a port").1;
    let client = Client::new(Policy::default()).expect("a client");
    for host in ["localhost", "LOCALHOST"] {
        let address: DataUrl = format!("https://{host}:{port}/x?sig=hunter2").parse().expect("one");
        let error = client.send(&Request::to_data(Method::Get, &address)).await;
        let error = error.expect_err("it is refused");
        assert!(matches!(error, HttpError::Refused { .. }), "{host}: {error:?}");
        assert!(!error.is_transient() && !error.to_string().contains("hunter2"), "{error}");
    }
    assert!(server.asked().is_empty(), "nobody was called");
}

#[tokio::test]
async fn a_secret_address_is_called_and_never_shown() {
    let server = Server::new(&[Reply::status(404)]);
    let text = format!("http://{}/services/hunter2?token=hunter2", server.address());
    let address: SecretUrl = text.parse().expect("an address");
    let request = Request::to_secret(Method::Post, &address);
    let answer = Client::new(Policy::default()).expect("a client").send(&request).await;
    let error = answer.and_then(mloop_http::Response::success).expect_err("404");
    assert_eq!(server.asked()[0].line, "POST /services/hunter2?token=hunter2");
    let shown = format!("{error} {error:?} {address:?}");
    assert!(shown.contains(server.address()) && !shown.contains("hunter2"), "{shown}");
}
