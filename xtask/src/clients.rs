//! What the tests of somebody else's clients need beside Node: Python with a virtual environment, and
//! a JDK with Maven. What is not there is left out, with a word about it.

use std::path::PathBuf;

use crate::browser;
use crate::run::{Step, find, say, target_dir};

/// The Python of an environment with the packages of `clients/requirements.txt`.
pub(crate) fn python() -> Option<PathBuf> {
    let leave_out = |why: &str| {
        say(&format!("leaving out stomp.py: {why}"));
        None
    };
    let Some(python) = find("python3") else {
        return leave_out("there is no python3");
    };
    let requirements = browser::folder().join("clients/requirements.txt");
    let environment = target_dir().join("python");
    let own = environment.join("bin/python");
    let stamp = environment.join("requirements.txt");
    let wanted = std::fs::read(&requirements).ok();
    if own.is_file() && std::fs::read(&stamp).ok() == wanted {
        return Some(own);
    }
    say("installing the Python packages of end2end/clients");
    let made = Step::new(python)
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
