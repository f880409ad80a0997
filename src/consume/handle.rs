//! Telling a running consumer what a job has changed under it.

use tokio::sync::mpsc::UnboundedSender;

use crate::inbox::{Change, ConsumerId, Effect};
use crate::model::SinkName;

/// A running consumer, for whoever carries out jobs. Cheap to clone; orders to a consumer that has ended are dropped:
/// what they are about is stored, and read at the next start.
#[derive(Clone, Debug)]
pub struct Handle {
    id: ConsumerId,
    name: SinkName,
    orders: UnboundedSender<Change>,
}

impl Handle {
    pub(super) fn new(id: ConsumerId, name: SinkName, orders: UnboundedSender<Change>) -> Self {
        Self { id, name, orders }
    }

    /// The consumer's number in the inbox.
    pub fn id(&self) -> ConsumerId {
        self.id
    }

    /// The name that its sink has in the configuration.
    pub fn name(&self) -> &SinkName {
        &self.name
    }

    /// Passes an effect on when it is about this consumer. It is durable already.
    pub fn tell(&self, effect: &Effect) {
        if effect.consumer == self.id {
            _ = self.orders.send(effect.change.clone());
        }
    }
}
