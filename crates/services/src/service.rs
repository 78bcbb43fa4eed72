//! The services by name, and what each needs beside itself.

use std::collections::BTreeSet;

/// One service of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// A PostgreSQL server with an empty cluster.
    Postgres,
    /// The Pushgateway.
    Pushgateway,
    /// The Alertmanager, with a webhook receiver behind it.
    Alertmanager,
    /// Prometheus, which scrapes the Pushgateway.
    Prometheus,
    /// An SMTP server with STARTTLS and AUTH.
    Smtp,
    /// AWS as moto plays it.
    Moto,
    /// An MLflow tracking server.
    Mlflow,
    /// An MLflow tracking server with basic authentication.
    MlflowAuth,
    /// Airflow with scheduler, API server, DAG processor and triggerer.
    Airflow,
    /// No server: the validator of Kubernetes manifests, installed only.
    Kubernetes,
    /// No server: the libraries that `mloop-stats` is held against, with real data, installed only.
    Oracles,
}

impl Service {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Postgres,
        Self::Pushgateway,
        Self::Alertmanager,
        Self::Prometheus,
        Self::Smtp,
        Self::Moto,
        Self::Mlflow,
        Self::MlflowAuth,
        Self::Airflow,
        Self::Kubernetes,
        Self::Oracles,
    ];

    /// The name, as the command line and the file of the bench have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Pushgateway => "pushgateway",
            Self::Alertmanager => "alertmanager",
            Self::Prometheus => "prometheus",
            Self::Smtp => "smtp",
            Self::Moto => "moto",
            Self::Mlflow => "mlflow",
            Self::MlflowAuth => "mlflow_auth",
            Self::Airflow => "airflow",
            Self::Kubernetes => "kubernetes",
            Self::Oracles => "oracles",
        }
    }

    /// The service of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// What must run beside it.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Prometheus => &[Self::Pushgateway, Self::Alertmanager],
            _ => &[],
        }
    }

    /// The services asked for and those that they need; all for an empty list.
    pub(crate) fn with_needs(asked: &[Self]) -> BTreeSet<Self> {
        let asked = if asked.is_empty() { &Self::ALL } else { asked };
        asked.iter().flat_map(|service| service.needs().iter().chain([service])).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_service() {
        for service in Service::ALL {
            assert_eq!(Service::named(service.name()), Some(service));
        }
        assert_eq!(Service::named("redis"), None);
    }

    #[test]
    fn a_subset_brings_what_it_needs_and_nothing_else() {
        let names = |asked: &[Service]| -> Vec<&str> {
            Service::with_needs(asked).into_iter().map(Service::name).collect()
        };
        assert_eq!(names(&[Service::Smtp, Service::Mlflow]), ["smtp", "mlflow"]);
        assert_eq!(names(&[Service::Prometheus]), ["pushgateway", "alertmanager", "prometheus"]);
        assert_eq!(names(&[]).len(), Service::ALL.len());
    }

    #[test]
    fn the_documentation_has_a_row_for_each() {
        let page = std::fs::read_to_string(crate::place::root().join("docs/services.md"));
        let page = page.expect("a page");
        for service in Service::ALL {
            assert!(page.contains(&format!("| `{}` |", service.name())), "{service:?}");
        }
    }
}
