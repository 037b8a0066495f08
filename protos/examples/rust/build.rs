//! Generates the clients from the contracts, without protoc.

use std::{env, fs, path::Path, path::PathBuf};

use prost::Message;

fn protos(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the contracts are there") {
        let path = entry.expect("a folder is readable").path();
        if path.is_dir() {
            protos(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            found.push(path);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../..");
    let mut files = Vec::new();
    protos(&root.join("herald"), &mut files);
    println!("cargo:rerun-if-changed=../../herald");
    let descriptors = protox::compile(files, [root])?;
    // the steps make calls by their names
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("herald.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
