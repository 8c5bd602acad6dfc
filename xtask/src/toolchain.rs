//! A toolchain that can build for WebAssembly, whatever the machine has.
//!
//! 1. The std of the target is there: use it.
//! 2. rustup can add it: use it.
//! 3. Debian 12 as root: its packages of a newer compiler with the std's source, which build the
//!    client alone, std included.
//! 4. Else: say which of the three to do.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::{Step, find, root, say, target_dir};

/// The web client's target.
pub(crate) const WASM: &str = "wasm32-unknown-unknown";

/// Set to `quick` while working on the client: its module is then built in seconds, is large, and is
/// left as it is. The spec of the first page's weight fails with it.
const EFFORT: &str = "SARANGBANG_WASM_PROFILE";

/// Set to `debian` to take the third way even where the first would do.
const FORCE: &str = "SARANGBANG_WASM_TOOLCHAIN";

/// Builds the web client; gives the path of its module.
pub(crate) fn build_client() -> Result<PathBuf> {
    let forced = std::env::var(FORCE).is_ok_and(|way| way == "debian");
    if !forced && has_std() {
        say(&format!(
            "building the web client (the std of {WASM} is there)"
        ));
        return build_with_std();
    }
    if !forced && add_std() {
        say("building the web client (rustup has added the target)");
        return build_with_std();
    }
    if is_debian_12_as_root() {
        install_debian_toolchain()?;
        say(
            "building the web client with Debian's compiler, std included: a few minutes the first time",
        );
        return build_with_debian();
    }
    bail!(
        "the web client needs the std of {WASM}. Do one of these: `rustup target add {WASM}`; \
         or install a Rust toolchain that has it; or, on Debian 12, run this once as root, which \
         installs rustc-web, cargo-web, rust-web-src and the lld that fits"
    )
}

/// Whether the module is to be built fast rather than small.
pub(crate) fn is_quick() -> bool {
    std::env::var(EFFORT).is_ok_and(|effort| effort == "quick")
}

/// The client's profile in `Cargo.toml`.
fn profile() -> &'static str {
    if is_quick() { "wasm-quick" } else { "wasm" }
}

/// Whether the compiler on the PATH has the std of the target.
pub(crate) fn has_std() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = Step::new(rustc)
        .args(["--print", "target-libdir", "--target", WASM])
        .output();
    folder.is_some_and(|folder| Path::new(&folder).is_dir())
}

/// Lets rustup add the std of the target; whether it could.
pub(crate) fn add_std() -> bool {
    if find("rustup").is_none() {
        return false;
    }
    say(&format!("asking rustup for the std of {WASM}"));
    Step::new("rustup").args(["target", "add", WASM]).succeeds() && has_std()
}

/// Makes sure that a component of the toolchain is there.
pub(crate) fn component(name: &str) -> Result<()> {
    let subcommand = if name == "rustfmt" { "fmt" } else { name };
    if Step::cargo().args([subcommand, "--version"]).succeeds() {
        return Ok(());
    }
    say(&format!("asking rustup for {name}"));
    let advice = format!("install {name} for this toolchain");
    Step::new("rustup")
        .args(["component", "add", name])
        .run(&advice)
}

/// Whether this is Debian 12, and we may install packages.
pub(crate) fn is_debian_12_as_root() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has = |line: &str| release.lines().any(|known| known == line);
    has("ID=debian")
        && has("VERSION_ID=\"12\"")
        && Step::new("id").arg("-u").output().as_deref() == Some("0")
}

/// Installs packages of Debian.
pub(crate) fn install_packages(names: &[&str]) -> Result<()> {
    say(&format!("installing {} from Debian", names.join(", ")));
    let advice = "look at what apt says above; the machine needs to reach a Debian mirror";
    Step::new("apt-get")
        .args(["update", "--quiet", "--quiet"])
        .run(advice)?;
    Step::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(names)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run(advice)
}

fn build_with_std() -> Result<PathBuf> {
    Step::cargo()
        .args(client_arguments())
        .env("RUSTFLAGS", rust_flags())
        .run("mend what the compiler says above")?;
    Ok(module_in(&target_dir()))
}

fn install_debian_toolchain() -> Result<()> {
    if Path::new("/usr/bin/rustc").exists() && find(&linker()?).is_some() && has_debian_source() {
        return Ok(());
    }
    if !Path::new("/usr/bin/rustc").exists() || !has_debian_source() {
        install_packages(&["rustc-web", "cargo-web", "rust-web-src"])?;
    }
    let linker = linker()?;
    if find(&linker).is_none() {
        install_packages(&[&linker.replace("wasm-ld", "lld")])?;
    }
    Ok(())
}

fn has_debian_source() -> bool {
    let sysroot = Step::new("/usr/bin/rustc")
        .args(["--print", "sysroot"])
        .output();
    sysroot.is_some_and(|sysroot| {
        Path::new(&sysroot)
            .join("lib/rustlib/src/rust/library/std/Cargo.toml")
            .exists()
    })
}

/// The linker of the LLVM that Debian's compiler was built with.
fn linker() -> Result<String> {
    let version = Step::new("/usr/bin/rustc")
        .arg("-vV")
        .output()
        .unwrap_or_default();
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "));
    match llvm.and_then(|llvm| llvm.split('.').next()) {
        Some(major) => Ok(format!("wasm-ld-{major}")),
        None => bail!("/usr/bin/rustc does not say which LLVM it has; reinstall rustc-web"),
    }
}

fn build_with_debian() -> Result<PathBuf> {
    let folder = target_dir().join("debian");
    Step::new("/usr/bin/cargo")
        .args(client_arguments())
        .args(["-Z", "build-std=std,panic_abort"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTFLAGS", rust_flags())
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker()?)
        .env("CARGO_TARGET_DIR", &folder)
        .run("mend what the compiler says above")?;
    Ok(module_in(&folder))
}

/// Keeps the paths of this machine out of the module: they name no place for who downloads it.
fn rust_flags() -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let sources = home.map(|home| format!("--remap-path-prefix={}/registry/src=", home.display()));
    // Flags are divided at spaces.
    sources
        .filter(|flag| !flag.contains(' '))
        .unwrap_or_default()
}

fn client_arguments() -> [&'static str; 11] {
    [
        "build",
        "--package",
        "client",
        "--lib",
        "--no-default-features",
        "--features",
        "hydrate",
        "--target",
        WASM,
        "--profile",
        profile(),
    ]
}

fn module_in(folder: &Path) -> PathBuf {
    root()
        .join(folder)
        .join(WASM)
        .join(profile())
        .join("client.wasm")
}
