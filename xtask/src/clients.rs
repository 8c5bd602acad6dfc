//! What the tests of somebody else's clients need beside Node: Python with a virtual environment,
//! installed where that can be done, and a JDK with Maven. What is not there is left out, with a word
//! about it.

use std::path::PathBuf;

use crate::browser;
use crate::run::{Step, find, say, target_dir};
use crate::toolchain::{install_packages, is_debian_12_as_root};

/// The Python of an environment with the packages of `clients/requirements.txt`.
pub(crate) fn python() -> Option<PathBuf> {
    let leave_out = |why: &str| {
        say(&format!("leaving out stomp.py: {why}"));
        None
    };
    let requirements = browser::folder().join("clients/requirements.txt");
    let environment = target_dir().join("python");
    let own = environment.join("bin/python");
    let stamp = environment.join("requirements.txt");
    let wanted = std::fs::read(&requirements).ok();
    if own.is_file() && std::fs::read(&stamp).ok() == wanted {
        return Some(own);
    }
    if !has_venv()
        && is_debian_12_as_root()
        && let Err(error) = install_packages(&["python3-venv"])
    {
        return leave_out(&format!("{error:#}"));
    }
    if !has_venv() {
        return leave_out("there is no python3 with its module venv");
    }
    say("installing the Python packages of end2end/clients");
    let made = Step::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&environment)
        .run("install the venv module of Python");
    let installed = made.and_then(|()| {
        Step::new(&own)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--requirement",
            ])
            .arg(&requirements)
            .run("the machine needs to reach a Python package index")
    });
    if let Err(error) = installed {
        return leave_out(&format!("{error:#}"));
    }
    // Without it the packages are only installed again.
    let _ = std::fs::copy(requirements, stamp);
    Some(own)
}

/// Whether Python is there and can make an environment, which Debian packs apart.
fn has_venv() -> bool {
    Step::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .succeeds()
}

/// Maven, where a JDK is found with it.
pub(crate) fn maven() -> Option<PathBuf> {
    match (find("mvn"), find("javac")) {
        (Some(maven), Some(_)) => Some(maven),
        _ => {
            say("leaving out Spring's client: there is no JDK (17 or newer) with Maven");
            None
        }
    }
}
