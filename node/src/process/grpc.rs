//! What the gRPC server serves beside Steading's own services: health and reflection.

use std::convert::Infallible;
use std::time::Duration;

use steading::{Node, Tasks};
use steading_proto::v1::FILE_DESCRIPTOR_SET;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

/// How often health is compared with the node's readiness, of which nothing tells by itself.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// The services whose health is told: the server as a whole, and what clients call.
const SERVICES: [&str; 2] = ["", "steading.v1.Objects"];

/// The additional services of one node.
#[derive(Debug)]
pub(crate) struct GrpcExtras {
    health: HealthReporter,
    routes: Routes,
}

impl GrpcExtras {
    /// Makes them, with every service not serving yet.
    pub(crate) async fn new() -> Self {
        let (health, service) = health_reporter();
        for name in SERVICES {
            health
                .set_service_status(name, ServingStatus::NotServing)
                .await;
        }
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the generated descriptors are well-formed");
        let routes = Routes::new(service).add_service(reflection);
        Self { health, routes }
    }

    /// Returns the routes for the node's builder.
    pub(crate) fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Keeps the told health equal to the node's readiness.
    pub(crate) fn follow(self, node: Node, tasks: &Tasks) {
        tasks.spawn("grpc-health", |shutdown| async move {
            let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
            while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
                let status = if node.readiness().is_ready() {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                for name in SERVICES {
                    self.health.set_service_status(name, status).await;
                }
            }
            Ok::<_, Infallible>(())
        });
    }
}
