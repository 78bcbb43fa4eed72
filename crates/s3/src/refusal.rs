//! Answers in place of what was asked for, caught before the library below makes text of them: its errors
//! repeat all that the store said, and a store says what was signed.

use async_trait::async_trait;
use futures::TryStreamExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

/// Most bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;

/// Most bytes of an answer that is no object: a list of 1000 keys, as long as keys can be, or credentials.
const MAX_ANSWER: usize = 16 << 20;

/// Most characters of the store's words that are shown.
const MAX_WORDS: usize = 300;

/// What a server answered in place of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status {status}{}{code}{}{message}", if code.is_empty() { "" } else { ", " }, if message.is_empty() { "" } else { ": " })]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// S3's code, such as `NoSuchBucket`; empty where there is none.
    pub(crate) code: String,
    /// S3's words.
    pub(crate) message: String,
}

impl Refusal {
    fn of(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        Self { status, code: words(&text, "Code"), message: words(&text, "Message") }
    }
}

/// What stands in an element, made fit to be shown.
fn words(xml: &str, element: &str) -> String {
    let inside = xml
        .split_once(&format!("<{element}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{element}>")))
        .map_or("", |(inside, _)| inside);
    inside.chars().filter(|one| !one.is_control()).take(MAX_WORDS).collect()
}

/// Makes clients whose answers are successes, or errors that hold a [`Refusal`].
#[derive(Debug, Default)]
pub(crate) struct Refusing(ReqwestConnector);

impl HttpConnector for Refusing {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        self.0.connect(options).map(|client| HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // An object is asked for by its range; the reader counts its bytes.
        let is_object = request.headers().contains_key("range");
        let is_list = request.uri().query().is_some_and(|query| query.contains("list-type=2"));
        let answer = self.0.execute(request).await?;
        let (head, body) = answer.into_parts();
        if !head.status.is_success() {
            let said = up_to(body, MAX_REFUSAL).await?;
            let refusal = Refusal::of(head.status.as_u16(), &said);
            return Err(HttpError::new(HttpErrorKind::Unknown, refusal));
        }
        if is_object {
            return Ok(HttpResponse::from_parts(head, body));
        }
        let whole = up_to(body, MAX_ANSWER + 1).await?;
        if whole.len() > MAX_ANSWER {
            let problem = format!("the answer is larger than {MAX_ANSWER} bytes");
            let problem = std::io::Error::new(std::io::ErrorKind::InvalidData, problem);
            return Err(HttpError::new(HttpErrorKind::Decode, problem));
        }
        if is_list && !is_whole_list(&whole) {
            let (code, message) = (String::new(), "the answer is no list of S3's".to_owned());
            let refusal = Refusal { status: head.status.as_u16(), code, message };
            return Err(HttpError::new(HttpErrorKind::Decode, refusal));
        }
        Ok(HttpResponse::from_parts(head, whole.into()))
    }
}

/// Whether a body is a list from its first element to its last: the library below takes any other XML, a page
/// of a proxy for one, for a list of nothing.
fn is_whole_list(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_end();
    text.contains("<ListBucketResult")
        && (text.ends_with("</ListBucketResult>") || text.ends_with("/>"))
}

/// The first bytes of a body; what follows is not read.
async fn up_to(body: HttpResponseBody, limit: usize) -> Result<Vec<u8>, HttpError> {
    let (mut stream, mut found) = (body.bytes_stream(), Vec::new());
    while found.len() < limit
        && let Some(part) = stream.try_next().await?
    {
        found.extend_from_slice(&part[..part.len().min(limit - found.len())]);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_code_and_words_and_nothing_that_was_signed() {
        let body = b"<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The request \
            signature\ndoes not match</Message><AWSAccessKeyId>AKIA1</AWSAccessKeyId><CanonicalRequest>GET \
            x-amz-security-token:hunter2</CanonicalRequest></Error>";
        let refusal = Refusal::of(403, body);
        let shown = "status 403, SignatureDoesNotMatch: The request signaturedoes not match";
        assert_eq!(refusal.to_string(), shown);
        assert!(!format!("{refusal:?}").contains("hunter2"));
        assert_eq!(Refusal::of(502, b"<html>").to_string(), "status 502");
        assert_eq!(Refusal::of(500, b"<Code>x").to_string(), "status 500");
        let long = format!("<Message>{}</Message>", "ü".repeat(1000));
        assert_eq!(Refusal::of(400, long.as_bytes()).message.chars().count(), MAX_WORDS);
    }

    #[test]
    fn only_a_whole_list_is_a_list() {
        for (body, whole) in [
            ("<?xml?><ListBucketResult xmlns=\"x\"><Name/></ListBucketResult>\n", true),
            ("<ListBucketResult/>", true),
            ("<ListBucketResult><Contents>", false),
            ("<html></html>", false),
            ("", false),
        ] {
            assert_eq!(is_whole_list(body.as_bytes()), whole, "{body}");
        }
    }
}
