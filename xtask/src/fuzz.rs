//! Fuzzing with libFuzzer on the stable compiler: the targets of `fuzz/` are built with its coverage, and
//! run for a while each from their seeds.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::run::{Step, root, say, target_dir};

pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";

/// The targets of `fuzz/Cargo.toml`, each with the folder of its seeds.
const TARGETS: [(&str, &str); 3] = [
    ("decode", "decode"),
    ("round_trip", "decode"),
    ("session", "session"),
];

/// What libFuzzer needs to see where an input leads.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Runs each target, or the named one, for so many seconds.
pub(crate) fn run(only: Option<&str>, seconds: u64) -> Result<()> {
    if let Some(only) = only
        && !TARGETS.iter().any(|(target, _)| *target == only)
    {
        let names = TARGETS.map(|(target, _)| target).join(", ");
        bail!("there is no fuzz target {only}; there are {names}");
    }
    let folder = target_dir().join("fuzz");
    let host = host()?;
    say("building the fuzz targets (this needs a C++ compiler)");
    Step::cargo()
        .args(["build", "--release", "--manifest-path", MANIFEST])
        // The target is named so that its flags are not those of build scripts.
        .args(["--target", &host])
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"))
        .run("install a C++ compiler, or mend what the compiler says above")?;
    for (target, seeds) in TARGETS {
        if only.is_some_and(|only| only != target) {
            continue;
        }
        let corpus = folder.join("corpus").join(target);
        let findings = folder.join("findings").join(target);
        for made in [&corpus, &findings] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        say(&format!("fuzzing {target} for {seconds} s"));
        Step::new(folder.join(&host).join("release").join(target))
            .arg(&corpus)
            .arg(root().join("fuzz/seeds").join(seeds))
            .args([
                &format!("-max_total_time={seconds}"),
                "-max_len=4096",
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-print_final_stats=1",
                &format!("-artifact_prefix={}/", findings.display()),
            ])
            .run("make the input that it found into a test, then mend the fault")?;
    }
    Ok(())
}

/// The triple of this machine.
fn host() -> Result<String> {
    let version = Step::new("rustc").arg("-vV").output();
    let version = version.context("rustc does not say its version")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}
