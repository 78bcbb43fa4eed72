//! One conversation with an SMTP server.

use std::fmt;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use crate::failure::{Failure, Step};

/// Where mails are handed in, and how.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) encryption: Encryption,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) hello: ClientId,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
}

pub(crate) enum Encryption {
    Starttls(TlsParameters),
    Implicit(TlsParameters),
    None,
}

/// A recipient that the server does not take, and its answer.
pub(crate) struct Refusal {
    pub(crate) recipient: String,
    pub(crate) failure: Failure,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = "; tried again later";
        write!(f, "{}: {}{again}", self.recipient, self.failure)
    }
}

/// How long the end of a conversation may take.
const GOODBYE: Duration = Duration::from_secs(1);

impl Server {
    /// Name and address, for messages.
    pub(crate) fn place(&self) -> String {
        format!("the SMTP server at {}:{}", self.host, self.port)
    }

    /// Hands in one mail, within the time limit. `compose` makes it once it is known who will not get
    /// it. Gives those recipients; at least one other has it.
    pub(crate) async fn send(
        &self,
        from: &Mailbox,
        to: &[Mailbox],
        compose: impl FnOnce(&[Refusal]) -> Result<Vec<u8>, Failure>,
    ) -> Result<Vec<Refusal>, Failure> {
        let talk = self.talk(from, to, compose);
        let timed = tokio::time::timeout(self.timeout, talk).await;
        let (mut connection, refused) = timed.unwrap_or(Err(Failure::TimedOut(self.timeout)))?;
        // The mail is the server's now, whatever it says to this and however long it takes for it.
        drop(tokio::time::timeout(GOODBYE, connection.quit()).await);
        Ok(refused)
    }

    async fn talk(
        &self,
        from: &Mailbox,
        to: &[Mailbox],
        compose: impl FnOnce(&[Refusal]) -> Result<Vec<u8>, Failure>,
    ) -> Result<(AsyncSmtpConnection, Vec<Refusal>), Failure> {
        let mut connection = self.connect().await?;
        let sender = Mail::new(Some(from.email.clone()), vec![]);
        connection.command(sender).await.map_err(|error| Failure::of(Step::Sender, &error))?;
        let refused = name_recipients(&mut connection, to).await?;
        if refused.len() == to.len() {
            connection.abort().await;
            return Err(nobody(&refused));
        }
        let mail = compose(&refused)?;
        let content = |error| Failure::of(Step::Content, &error);
        connection.command(Data).await.map_err(content)?;
        connection.message(&mail).await.map_err(content)?;
        Ok((connection, refused))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let (address, limit) = ((self.host.as_str(), self.port), Some(self.connect_timeout));
        let implicit = match &self.encryption {
            Encryption::Implicit(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let connected =
            AsyncSmtpConnection::connect_tokio1(address, limit, &self.hello, implicit, None);
        let failed = |error| Failure::of(Step::Connecting, &error);
        let mut connection = connected.await.map_err(failed)?;
        if let Encryption::Starttls(parameters) = &self.encryption {
            if !connection.can_starttls() {
                connection.abort().await;
                let problem = "it offers no STARTTLS, without which nothing is sent; see `tls`";
                return Err(Failure::Refused(problem.to_owned()));
            }
            let encrypted = connection.starttls(parameters.clone(), &self.hello).await;
            encrypted.map_err(|error| Failure::of(Step::Encrypting, &error))?;
        }
        if let Some(credentials) = &self.credentials {
            let known = [Mechanism::Plain, Mechanism::Login];
            let allowed = connection.auth(&known, credentials).await;
            allowed.map_err(|error| Failure::of(Step::LoggingIn, &error))?;
        }
        Ok(connection)
    }
}

/// Names all recipients; gives those that the server does not take.
async fn name_recipients(
    connection: &mut AsyncSmtpConnection,
    to: &[Mailbox],
) -> Result<Vec<Refusal>, Failure> {
    let mut refused = vec![];
    for recipient in to {
        let named = connection.command(Rcpt::new(recipient.email.clone(), vec![])).await;
        let Err(error) = named else { continue };
        let failure = Failure::of(Step::Recipient, &error);
        if error.status().is_none() || matches!(failure, Failure::Denied(_)) {
            return Err(failure);
        }
        refused.push(Refusal { recipient: recipient.email.to_string(), failure });
    }
    Ok(refused)
}

/// No recipient was taken: later, if at least one may be taken then.
fn nobody(refused: &[Refusal]) -> Failure {
    let later = refused.iter().any(|one| one.failure.is_transient());
    let all: Vec<String> =
        refused.iter().map(|one| format!("{} ({})", one.recipient, one.failure)).collect();
    let problem = format!("no recipient is taken: {}", all.join(", "));
    if later { Failure::Busy(problem) } else { Failure::Refused(problem) }
}
