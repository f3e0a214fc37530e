//! `corvus image`: what it writes starts where there is nothing else.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::CORVUS;

fn image(to: &str) -> Output {
    let output = Command::new(CORVUS).args(["image", "--to", to]).output();
    output.expect("it runs")
}

/// Unpacks the only layer of an archive into a folder.
fn unpack(archive: &Path, folder: &Path) {
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).output().expect("tar");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let archive = archive.display().to_string();
    let index = tar(&["xOf", &archive, "manifest.json"]);
    let index: serde_json::Value = serde_json::from_slice(&index).expect("an index");
    let layer = index[0]["Layers"][0].as_str().expect("a layer");
    let packed = folder.join("layer.tar.gz");
    std::fs::write(&packed, tar(&["xOf", &archive, layer])).expect("written");
    let root = folder.join("root").display().to_string();
    std::fs::create_dir(&root).expect("made");
    tar(&["xzf", &packed.display().to_string(), "-C", &root]);
}

#[test]
fn an_image_has_all_the_program_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("corvus.tar");
    let written = image(&archive.display().to_string());
    assert!(written.status.success(), "{written:?}");
    let again = image("-");
    let first = std::fs::read(&archive).expect("written");
    assert!(
        first == again.stdout,
        "the same program gives the same image"
    );

    unpack(&archive, folder.path());
    let root = folder.path().join("root");
    let started = Command::new("chroot")
        .args([root.as_os_str(), "/corvus".as_ref(), "version".as_ref()])
        .output()
        .expect("chroot");
    let error = String::from_utf8_lossy(&started.stderr);
    if error.contains("Operation not permitted") {
        println!("SKIPPED starting the program of the image: chroot needs root");
        return;
    }
    let text = String::from_utf8_lossy(&started.stdout);
    assert!(text.starts_with("corvus "), "{text}{error}");
}

#[test]
fn an_image_replaces_no_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("corvus.tar");
    std::fs::write(&file, "something else").expect("written");
    let refused = image(&file.display().to_string());
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && error.contains("is there already"),
        "{error}"
    );
    let kept = std::fs::read_to_string(&file).expect("there");
    assert_eq!(kept, "something else");
}
