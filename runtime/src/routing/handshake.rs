//! What two nodes tell each other when a connection opens, in the stream's metadata.
//!
//! An address can come to belong to another node, to another cluster, or to a later life of the
//! same node: a call must not run there, nor a reply be taken from there.

use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::ids::{Incarnation, NodeId, canonical_number};

/// The wire format of this version; nodes of another do not talk.
const WIRE: u64 = 1;

const WIRE_KEY: &str = "steading-wire";
const CLUSTER_KEY: &str = "steading-cluster";
const FROM_KEY: &str = "steading-node";
const TO_KEY: &str = "steading-to";
const LIFE_KEY: &str = "steading-incarnation";

/// What the node that dials says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The cluster it is part of.
    pub(super) cluster_id: String,
    /// Its own name.
    pub(super) from: NodeId,
    /// The node that it wants.
    pub(super) to: NodeId,
    /// The life of that node that it wants.
    pub(super) incarnation: Incarnation,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The cluster it is part of.
    pub(super) cluster_id: String,
    /// Its name.
    pub(super) node: NodeId,
    /// Its life, as far as it knows: a view can lag.
    pub(super) incarnation: Option<Incarnation>,
}

impl Greeting {
    /// Writes it into the metadata of a request.
    pub(super) fn write(&self, metadata: &mut MetadataMap) {
        metadata.insert(WIRE_KEY, WIRE.into());
        put(metadata, CLUSTER_KEY, &self.cluster_id);
        put(metadata, FROM_KEY, self.from.as_str());
        put(metadata, TO_KEY, self.to.as_str());
        metadata.insert(LIFE_KEY, self.incarnation.get().into());
    }

    /// Reads it from the metadata of a request.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` unless it is all there and of this wire format.
    pub(super) fn read(metadata: &MetadataMap) -> Result<Self, Status> {
        let wire = number(metadata, WIRE_KEY)?;
        if wire != WIRE {
            let text = format!("this node speaks wire format {WIRE}, not {wire}");
            return Err(Status::invalid_argument(text));
        }
        Ok(Self {
            cluster_id: text(metadata, CLUSTER_KEY)?.into(),
            from: node(metadata, FROM_KEY)?,
            to: node(metadata, TO_KEY)?,
            incarnation: Incarnation::new(number(metadata, LIFE_KEY)?),
        })
    }
}

impl Identity {
    /// Checks that a greeting is meant for this node.
    ///
    /// # Errors
    ///
    /// `FAILED_PRECONDITION`, in words, if it wants somebody else.
    pub(super) fn check(&self, greeting: &Greeting) -> Result<(), Status> {
        let refuse = |text: String| Err(Status::failed_precondition(text));
        if greeting.cluster_id != self.cluster_id {
            let (ours, theirs) = (&self.cluster_id, &greeting.cluster_id);
            return refuse(format!("this node is of cluster {ours}, not {theirs}"));
        }
        if greeting.to != self.node {
            return refuse(format!("this is node {}, not {}", self.node, greeting.to));
        }
        // A greater one than we know is our own, which our view has not yet.
        match self.incarnation.filter(|ours| *ours > greeting.incarnation) {
            Some(ours) => refuse(format!(
                "node {} is in life {ours} now, not {}",
                self.node, greeting.incarnation
            )),
            None => Ok(()),
        }
    }

    /// Writes the name into the metadata of a response.
    pub(super) fn write(&self, metadata: &mut MetadataMap) {
        put(metadata, CLUSTER_KEY, &self.cluster_id);
        put(metadata, FROM_KEY, self.node.as_str());
    }
}

/// Checks that the node that answered is the one that was greeted.
///
/// # Errors
///
/// In words, if it is somebody else.
pub(super) fn check_response(greeting: &Greeting, metadata: &MetadataMap) -> Result<(), Status> {
    let found = (text(metadata, CLUSTER_KEY)?, node(metadata, FROM_KEY)?);
    if found == (greeting.cluster_id.as_str(), greeting.to.clone()) {
        return Ok(());
    }
    let (cluster, node) = found;
    Err(Status::failed_precondition(format!(
        "node {node} of cluster {cluster} answered instead of {}",
        greeting.to
    )))
}

fn put(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    // A cluster ID is our own; a value that no header can hold is left out, and refused there.
    if let Ok(value) = MetadataValue::try_from(value) {
        metadata.insert(key, value);
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Result<&'a str, Status> {
    let value = metadata.get(key).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Status::invalid_argument(format!("metadata `{key}` is missing")))
}

fn node(metadata: &MetadataMap, key: &str) -> Result<NodeId, Status> {
    let id = text(metadata, key)?.parse();
    id.map_err(|error: crate::ids::InvalidNodeId| Status::invalid_argument(error.to_string()))
}

fn number(metadata: &MetadataMap, key: &str) -> Result<u64, Status> {
    let number = canonical_number(text(metadata, key)?);
    number.ok_or_else(|| Status::invalid_argument(format!("metadata `{key}` is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            cluster_id: "c-1".into(),
            from: NodeId::new("a").unwrap(),
            to: NodeId::new("b").unwrap(),
            incarnation: Incarnation::new(7),
        }
    }

    fn identity(cluster_id: &str, node: &str, incarnation: Option<u64>) -> Identity {
        Identity {
            cluster_id: cluster_id.into(),
            node: NodeId::new(node).unwrap(),
            incarnation: incarnation.map(Incarnation::new),
        }
    }

    #[test]
    fn a_greeting_comes_through_and_is_accepted_by_whom_it_is_for() {
        let mut metadata = MetadataMap::new();
        greeting().write(&mut metadata);
        let read = Greeting::read(&metadata).unwrap();
        assert_eq!(read, greeting());
        for life in [Some(7), None, Some(6)] {
            assert!(identity("c-1", "b", life).check(&read).is_ok());
        }
    }

    #[test]
    fn another_cluster_node_or_later_life_refuses_in_words() {
        let refusal = |identity: Identity| identity.check(&greeting()).unwrap_err().to_string();
        assert!(refusal(identity("c-2", "b", None)).contains("of cluster c-2, not c-1"));
        assert!(refusal(identity("c-1", "c", None)).contains("this is node c, not b"));
        assert!(refusal(identity("c-1", "b", Some(8))).contains("in life 8 now, not 7"));
        assert!(Greeting::read(&MetadataMap::new()).is_err());
    }

    #[test]
    fn an_answer_of_somebody_else_is_refused() {
        let check = |identity: Identity| {
            let mut metadata = MetadataMap::new();
            identity.write(&mut metadata);
            check_response(&greeting(), &metadata)
        };
        assert!(check(identity("c-1", "b", None)).is_ok());
        assert!(check(identity("c-1", "c", None)).is_err());
        assert!(check(identity("c-2", "b", None)).is_err());
    }
}
