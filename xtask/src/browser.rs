//! What the browser's tests need: Node, their packages, and Chromium.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::run::{Step, find, root, say};
use crate::toolchain::{install_packages, is_debian_12_as_root};

/// The oldest Node that the packages run on.
const NODE_MAJOR_MIN: u32 = 18;

/// Where Chromium is looked for, in this order; `CHROMIUM` comes before.
const CHROMIUMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
];

/// How the names of sockjs-clients begin, one for each version.
const SOCKJS: &str = "sockjs-client";

/// The folder of the browser's tests.
pub(crate) fn folder() -> PathBuf {
    root().join("end2end")
}

/// Finds npx, and installs Node where that can be done.
pub(crate) fn npx() -> Result<PathBuf> {
    if !has_node() && is_debian_12_as_root() {
        install_packages(&["nodejs", "npm"])?;
    }
    if !has_node() {
        bail!(
            "the browser's tests need Node {NODE_MAJOR_MIN} or newer with npm; install it and run this \
             again (on Debian 12, run this once as root, which installs it)"
        );
    }
    find("npx").context("npx is missing beside npm; install npm whole")
}

/// Whether a Node that will do is there, with its npm.
fn has_node() -> bool {
    let version = Step::new("node")
        .arg("--version")
        .output()
        .unwrap_or_default();
    let major = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= NODE_MAJOR_MIN)
        && find("npm").is_some()
        && find("npx").is_some()
}

/// Installs the packages of `end2end` when they are not those of its lock file.
pub(crate) fn packages() -> Result<()> {
    npx()?;
    let folder = folder();
    let lock = fs::read(folder.join("package-lock.json"))
        .context("end2end/package-lock.json is missing")?;
    let installed = installed().join(".sarangbang-lock");
    if fs::read(&installed).is_ok_and(|known| known == lock) {
        return Ok(());
    }
    say("installing the npm packages of end2end");
    Step::new(find("npm").context("npm is missing")?)
        .dir(&folder)
        .args(["ci", "--no-audit", "--no-fund"])
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
        .run("look at what npm says above; the machine needs to reach an npm registry")?;
    fs::write(installed, lock).context("node_modules cannot be written")
}

/// Finds Chromium or installs it. `None` means Playwright's own, which it finds by itself.
pub(crate) fn chromium() -> Result<Option<PathBuf>> {
    if let Some(chromium) = std::env::var_os("CHROMIUM") {
        let chromium = PathBuf::from(chromium);
        if !chromium.is_file() {
            bail!("CHROMIUM names {}, which is no file", chromium.display());
        }
        return Ok(Some(chromium));
    }
    if let Some(chromium) = CHROMIUMS.into_iter().find_map(find) {
        return Ok(Some(chromium));
    }
    if is_debian_12_as_root() {
        install_packages(&["chromium", "fonts-noto-cjk", "fonts-noto-color-emoji"])?;
        return Ok(Some(PathBuf::from("/usr/bin/chromium")));
    }
    say("asking Playwright for its Chromium");
    Step::new(npx()?)
        .dir(folder())
        .args(["--no-install", "playwright", "install", "chromium"])
        .run(
            "install Chromium or Chrome, or name it in the variable CHROMIUM (on Debian 12, run this \
             once as root, which installs it)",
        )?;
    Ok(None)
}

/// The packages of `end2end` that make what a browser loads smaller.
pub(crate) struct Shrinkers {
    /// For WebAssembly.
    pub(crate) wasm_opt: PathBuf,
    /// For scripts.
    pub(crate) terser: PathBuf,
}

/// Installs the packages that a build would rather have, where Node is; says it where it cannot.
pub(crate) fn offer_packages() {
    const LEFT_OUT: &str = "leaving out wasm-opt, terser and the sockjs-clients for frames";
    if !has_node() {
        say(&format!(
            "{LEFT_OUT}, as there is no Node: the page is larger, and works the same"
        ));
    } else if let Err(error) = packages() {
        say(&format!(
            "{LEFT_OUT}, as the npm packages could not be installed: {error:#}"
        ));
    }
}

/// Finds what makes smaller; `None` where it is not installed.
pub(crate) fn shrinkers() -> Option<Shrinkers> {
    let packaged = |path| Some(installed().join(path)).filter(|path| path.is_file());
    Some(Shrinkers {
        wasm_opt: packaged("binaryen/bin/wasm-opt")?,
        terser: packaged("terser/bin/terser")?,
    })
}

/// Where npm installs.
fn installed() -> PathBuf {
    folder().join("node_modules")
}

/// Reads each sockjs-client that `end2end` has, under whatever name: its version, and the script with its
/// licence before it. None where they are not installed.
pub(crate) fn sockjs_clients() -> Result<Vec<(String, Vec<u8>)>> {
    let Ok(entries) = fs::read_dir(installed()) else {
        return Ok(Vec::new());
    };
    let mut clients = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(SOCKJS) {
            continue;
        }
        let read = |file: &str| {
            let file = entry.path().join(file);
            fs::read_to_string(&file).with_context(|| format!("{} is missing", file.display()))
        };
        let script = read("dist/sockjs.min.js")?;
        let version = script
            .strip_prefix("/* sockjs-client v")
            .and_then(|rest| rest.split_once(' '))
            .map(|(version, _)| version.to_owned())
            .with_context(|| format!("{} says no version", entry.path().display()))?;
        // Its map is not served.
        let script = match script.split_once("//# sourceMappingURL=") {
            Some((script, _)) => script,
            None => &script,
        };
        let with_licence = format!("/*!\n{}\n*/\n{script}", read("LICENSE")?.trim());
        clients.push((version, with_licence.into_bytes()));
    }
    clients.sort();
    Ok(clients)
}
