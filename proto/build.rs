//! Compiles the `.proto` files with `protox`, so that no system `protoc` is needed.

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "proto/steading/v1/peer.proto",
        "proto/steading/v1/objects.proto",
        "proto/steading/v1/admin.proto",
        "proto/steading/v1/transfer.proto",
        "proto/steading/v1/operator.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("steading.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
