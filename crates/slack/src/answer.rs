//! What Slack's answers mean.

use std::time::Duration;

/// What to do about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The message is in the channel.
    Sent,
    /// Slack does not take the message in this form: a plainer one may pass.
    Form,
    /// Later, after so long if Slack says so.
    Later(Option<Duration>),
    /// The webhook leads nowhere any more, or may not post: so will every other message.
    Closed,
    /// Something that Slack does not answer: this is another service, or something stands between.
    Strange,
}

/// The meaning of a status with the word that Slack answers in, and with the wait that it asks for.
pub(crate) fn meaning(status: u16, word: Option<&str>, retry_after: Option<Duration>) -> Meaning {
    match status {
        200 if word == Some("ok") => Meaning::Sent,
        400 | 413 => Meaning::Form,
        401 | 403 | 404 | 410 => Meaning::Closed,
        408 | 429 | 500.. => Meaning::Later(retry_after),
        _ => Meaning::Strange,
    }
}

/// The one word that Slack answers in. Whatever else a body holds is not repeated: pages of proxies
/// like to quote the path, which is the secret.
pub(crate) fn word(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_word = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    is_word(text).then_some(text)
}

/// What to do about a word, for people; nothing where it speaks for itself.
pub(crate) fn advice(word: &str) -> &'static str {
    match word {
        "action_prohibited" => "the workspace does not allow it; ask its administrators",
        "channel_is_archived" => "its channel was archived; make a webhook for another channel",
        "channel_not_found" => "its channel was deleted; make a webhook for another channel",
        "invalid_token" | "no_service" | "no_service_id" | "no_team" | "team_disabled" => {
            "the webhook was revoked or mistyped; make a new one"
        }
        "posting_to_general_channel_denied" => "only some may post there; choose another channel",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_slack_documents() {
        let later = |secs: u64| Meaning::Later(Some(Duration::from_secs(secs)));
        for (status, body, retry_after, expected) in [
            (200, "ok", None, Meaning::Sent),
            (200, "ok\n", None, Meaning::Sent),
            (200, "<html>Sign in</html>", None, Meaning::Strange),
            (200, "", None, Meaning::Strange),
            (204, "", None, Meaning::Strange),
            (302, "", None, Meaning::Strange),
            (400, "invalid_payload", None, Meaning::Form),
            (400, "invalid_blocks", None, Meaning::Form),
            (400, "no_text", None, Meaning::Form),
            (400, "too_many_attachments", None, Meaning::Form),
            (403, "action_prohibited", None, Meaning::Closed),
            (403, "invalid_token", None, Meaning::Closed),
            (404, "channel_not_found", None, Meaning::Closed),
            (404, "no_service", None, Meaning::Closed),
            (410, "channel_is_archived", None, Meaning::Closed),
            (429, "rate_limited", Some(30), later(30)),
            (429, "", None, Meaning::Later(None)),
            (500, "rollup_error", None, Meaning::Later(None)),
            (503, "", Some(1), later(1)),
        ] {
            let retry_after = retry_after.map(Duration::from_secs);
            let found = meaning(status, word(body.as_bytes()), retry_after);
            assert_eq!(found, expected, "{status} {body}");
        }
    }

    #[test]
    fn only_a_word_is_repeated() {
        for body in ["Cannot POST /services/T0/B0/hunter2", "", "no-service", "OK", "ok ok"] {
            assert_eq!(word(body.as_bytes()), None, "{body}");
        }
        assert_eq!(word(b" no_service\n"), Some("no_service"));
    }
}
