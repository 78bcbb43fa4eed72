//! Messages on their way.

use std::time::Duration;

use async_trait::async_trait;
use mloop_core::Subject;
use mloop_core::notification::Notification;
use mloop_platform::{Again, Message, Outbox, PlatformError, Waiting};

use crate::error::Failure;
use crate::session::{Session, first, insert};
use crate::store::{Store, Views};
use crate::value::{Row, Value};

/// Queues messages in the transaction of what they tell of.
pub(crate) fn enqueue_all(session: &mut dyn Session, messages: &[Message]) -> Result<(), Failure> {
    let mut each = messages.iter();
    each.try_for_each(|one| enqueue(session, &one.notification, &one.receivers))
}

fn enqueue(
    session: &mut dyn Session,
    notification: &Notification,
    receivers: &[String],
) -> Result<(), Failure> {
    // Nothing is decided on what was read, so that unique keys suffice and no lock is needed.
    let subject = &notification.subject;
    let row = [
        ("id", (&notification.id).into()),
        ("model", subject.model.as_str().into()),
        ("target", subject.target.as_str().into()),
        ("body", Value::json(notification)?),
    ];
    insert(session, "outbox", row, "ON CONFLICT (id) DO NOTHING")?;
    let sql = "INSERT INTO deliveries (receiver, message)
               SELECT $2, seq FROM outbox WHERE id = $1
               ON CONFLICT (receiver, message) DO NOTHING";
    for receiver in receivers {
        session.execute(sql, &[(&notification.id).into(), receiver.into()])?;
    }
    Ok(())
}

fn pending(
    session: &mut dyn Session,
    subject: &Subject,
    receiver: &str,
    limit: u32,
) -> Result<Vec<Waiting>, Failure> {
    let now = session.dialect().now();
    let sql = format!(
        "SELECT body, refusals FROM deliveries JOIN outbox ON seq = message
         WHERE receiver = $1 AND model = $2 AND target = $3 AND delivered_at IS NULL
           AND given_up_at IS NULL AND due_at <= {now}
         ORDER BY due_at, seq LIMIT $4"
    );
    let (model, target) = (subject.model.as_str().into(), subject.target.as_str().into());
    let rows = session.query(&sql, &[receiver.into(), model, target, limit.into()])?;
    let waiting = |row: &Row| {
        let notification = serde_json::from_str(row.text(0)?)?;
        Ok(Waiting { notification, refusals: row.revision(1)? })
    };
    rows.iter().map(waiting).collect()
}

fn postpone(
    session: &mut dyn Session,
    receiver: &str,
    id: &str,
    again: Again,
) -> Result<(), Failure> {
    let now = session.dialect().now();
    let (change, pause) = match again {
        Again::Soon => (format!("due_at = {now} + $3"), Duration::ZERO),
        Again::After(pause) => (format!("due_at = {now} + $3, refusals = refusals + 1"), pause),
        Again::Never => {
            (format!("given_up_at = {now} + $3, refusals = refusals + 1"), Duration::ZERO)
        }
    };
    let sql = format!(
        "UPDATE deliveries SET {change}
         WHERE receiver = $1 AND message = (SELECT seq FROM outbox WHERE id = $2)"
    );
    session.execute(&sql, &[receiver.into(), id.into(), pause.as_secs_f64().into()])
}

fn count_given_up(
    session: &mut dyn Session,
    subject: &Subject,
    receiver: &str,
) -> Result<u64, Failure> {
    let sql = "SELECT count(*) FROM deliveries JOIN outbox ON seq = message
               WHERE receiver = $1 AND model = $2 AND target = $3 AND given_up_at IS NOT NULL
                 AND delivered_at IS NULL";
    let (model, target) = (subject.model.as_str().into(), subject.target.as_str().into());
    let row = first(session, sql, &[receiver.into(), model, target])?;
    row.map_or(Ok(0), |row| row.count(0))
}

fn settle(session: &mut dyn Session, receiver: &str, id: &str) -> Result<(), Failure> {
    let now = session.dialect().now();
    let sql = format!(
        "UPDATE deliveries SET delivered_at = {now}
         WHERE receiver = $1 AND delivered_at IS NULL
           AND message = (SELECT seq FROM outbox WHERE id = $2)"
    );
    session.execute(&sql, &[receiver.into(), id.into()])
}

#[async_trait]
impl<S: Store> Outbox for Views<S> {
    async fn enqueue(
        &self,
        notification: &Notification,
        receivers: &[String],
    ) -> Result<(), PlatformError> {
        let doing = format!("queueing the message {}", notification.id);
        let (notification, receivers) = (notification.clone(), receivers.to_vec());
        let enqueue = move |session: &mut dyn Session| enqueue(session, &notification, &receivers);
        self.write("enqueue", doing, enqueue).await
    }

    async fn pending(
        &self,
        subject: &Subject,
        receiver: &str,
        limit: u32,
    ) -> Result<Vec<Waiting>, PlatformError> {
        let doing = format!("reading what waits for `{receiver}` about {subject}");
        let (subject, receiver) = (subject.clone(), receiver.to_owned());
        self.read(doing, move |session| pending(session, &subject, &receiver, limit)).await
    }

    async fn not_delivered(
        &self,
        receiver: &str,
        id: &str,
        again: Again,
    ) -> Result<(), PlatformError> {
        let doing = format!("putting off the message {id}");
        let (receiver, id) = (receiver.to_owned(), id.to_owned());
        let put_off = move |session: &mut dyn Session| postpone(session, &receiver, &id, again);
        self.write("not_delivered", doing, put_off).await
    }

    async fn given_up(&self, subject: &Subject, receiver: &str) -> Result<u64, PlatformError> {
        let doing = format!("counting what was given up for `{receiver}` about {subject}");
        let (subject, receiver) = (subject.clone(), receiver.to_owned());
        self.read(doing, move |session| count_given_up(session, &subject, &receiver)).await
    }

    async fn delivered(&self, receiver: &str, id: &str) -> Result<(), PlatformError> {
        let doing = format!("marking the message {id} as delivered");
        let (receiver, id) = (receiver.to_owned(), id.to_owned());
        self.write("delivered", doing, move |session| settle(session, &receiver, &id)).await
    }
}
