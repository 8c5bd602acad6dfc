//! Puts the web client's package, and the sockjs-clients for frames, into the binary: `SARANGBANG_SITE`
//! names the folder that `cargo xtask` has built. Without it the server is built without pages' script
//! and style.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=SARANGBANG_SITE");
    let mut table = String::new();
    let mut clients = String::new();
    let mut package = "pkg".to_owned();
    if let Some(site) = env::var_os("SARANGBANG_SITE") {
        let site = Path::new(&site);
        println!("cargo::rerun-if-changed={}", site.display());
        for entry in fs::read_dir(site)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("pkg-") {
                list(&entry.path(), "", &mut table)?;
                package = name;
            } else if name == "sockjs" {
                list(&entry.path(), "", &mut clients)?;
            }
        }
    }
    let source = format!(
        "const PACKAGE_DIR: &str = {package:?};\nconst FILES: &[File] = &[\n{table}];\n\
         /// Each as `sockjs-{{version}}.js`.\n\
         pub(crate) const SOCKJS_CLIENTS: &[File] = &[\n{clients}];\n"
    );
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("package.rs"), source)
}

fn list(folder: &Path, prefix: &str, table: &mut String) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(&path, &format!("{name}/"), table)?;
        } else if !name.ends_with(".br") && !name.ends_with(".gz") {
            let path = path.display().to_string();
            writeln!(
                table,
                "File {{ name: {name:?}, plain: include_bytes!({path:?}), \
                 brotli: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
                format!("{path}.br"),
                format!("{path}.gz"),
            )
            .map_err(io::Error::other)?;
        }
    }
    Ok(())
}
