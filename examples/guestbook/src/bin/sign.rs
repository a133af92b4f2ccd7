//! Signs a guestbook from Rust: joins the cluster as a gate, which hosts nothing and only routes.

use steading::Node;
use steading::ids::NodeId;
use steading::placement::Weight;
use steading_example_guestbook::Guestbook;

#[allow(clippy::print_stdout, reason = "a program for a terminal")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [etcd, house, name] = arguments.as_slice() else {
        anyhow::bail!("usage: sign ETCD HOUSE NAME");
    };
    let gate = Node::builder()
        .etcd([etcd])
        .id(NodeId::new(&format!("sign-{}", std::process::id()))?)
        .weight(Weight::GATE)
        .start()
        .await?;
    let book = gate.object::<Guestbook>(house);
    println!("guest {} of {house}", book.sign(name.clone()).await?);
    gate.stop().await;
    Ok(())
}
