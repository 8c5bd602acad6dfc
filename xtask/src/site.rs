//! The web client's package: wasm, script and style, each also as brotli and gzip, in a folder
//! named after their contents. Beside it, the sockjs-clients for frames.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use wasm_bindgen_cli_support::{Bindgen, Output};

use crate::browser::Shrinkers;
use crate::run::{Step, root, say, target_dir};
use crate::{browser, toolchain};

/// The name of the package's files.
const NAME: &str = "sarangbang";

/// What starts the client in the browser.
const START: &str = "client/src/start.js";

/// How the names of classes begin that a dependency of Leptos exports (wasm-streams) and nobody uses:
/// not exported, they and all that they need leave the module, a tenth of it.
const UNUSED_CLASSES: &str = "IntoUnderlying";

/// What the module calls the bindings, in each of its imports.
const IMPORTED_FROM: &str = "a";

/// What wasm-opt does, and what it may use: what browsers have had for years. Control flow that is laid
/// flat and built anew is smaller.
const WASM_OPT: [&str; 12] = [
    "--strip-target-features",
    "-Oz",
    "--flatten",
    "--rereloop",
    "-Oz",
    "-Oz",
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
    "--enable-multivalue",
];

/// How terser shrinks a module that a page imports.
const TERSER: [&str; 3] = ["--module", "--compress", "--mangle"];

/// Builds the package where its sources have changed; gives the folder that holds it.
pub(crate) fn build() -> Result<PathBuf> {
    let module = toolchain::build_client()?;
    let module = fs::read(&module).with_context(|| format!("{} is missing", module.display()))?;
    let style = style()?;
    let start = fs::read(root().join(START)).with_context(|| format!("{START} is missing"))?;
    let shrinkers = if toolchain::is_quick() {
        None
    } else {
        browser::offer_packages();
        browser::shrinkers()
    };
    let clients = browser::sockjs_clients()?;
    let shrunk: &[u8] = if shrinkers.is_some() { b"shrunk" } else { b"" };
    let options = [&WASM_OPT[..], &TERSER].concat().concat();
    let source = hash(&[
        &module,
        &start,
        style.as_bytes(),
        shrunk,
        options.as_bytes(),
        include_bytes!("site.rs"),
        &clients
            .iter()
            .map(|(_, script)| &script[..])
            .collect::<Vec<_>>()
            .concat(),
    ]);
    let site = target_dir().join("site");
    let made_from = site.join("made-from");
    if fs::read_to_string(&made_from).is_ok_and(|known| known == source) {
        return Ok(site);
    }
    let work = target_dir().join("site.part");
    clear(&work)?;
    say("writing the package: bindings, optimised wasm, brotli and gzip");
    let mut files = bind(module, &start, &work)?;
    if let Some(shrinkers) = shrinkers {
        shrink(&shrinkers, &mut files, &work)?;
    }
    files.push((format!("{NAME}.css"), style.into_bytes()));
    let contents: Vec<&[u8]> = files
        .iter()
        .flat_map(|(name, bytes)| [name.as_bytes(), bytes.as_slice()])
        .collect();
    clear(&work)?;
    let package = work.join(format!("pkg-{}", hash(&contents)));
    for (name, bytes) in &files {
        write(&package.join(name), bytes)?;
    }
    for (version, script) in &clients {
        write(&work.join(format!("sockjs/sockjs-{version}.js")), script)?;
    }
    fs::write(work.join("made-from"), &source)?;
    if site.exists() {
        fs::remove_dir_all(&site).context("the old package cannot be removed")?;
    }
    fs::rename(&work, &site).context("the package cannot be put in its place")?;
    Ok(site)
}

/// Makes the bindings, with what starts the client at their end, and the module that they load.
fn bind(module: Vec<u8>, start: &[u8], work: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let out = work.join("bindings");
    let mut output = Bindgen::new()
        .input_bytes(NAME, module)
        .web(true)?
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()
        .context(
            "the bindings could not be made: is the library of the same version as the crate?",
        )?;
    drop_unused(&mut output);
    let short = shorten(&mut output);
    output.emit(&out)?;
    let mut files = Vec::new();
    collect(&out, "", &mut files)?;
    let script = format!("{NAME}.js");
    for (_, bytes) in files.iter_mut().filter(|(name, _)| *name == script) {
        let text = String::from_utf8(std::mem::take(bytes))?;
        let imported_from = format!("\"./{NAME}_bg.js\"");
        let text = without_unused(&text).replace(&imported_from, IMPORTED_FROM);
        *bytes = renamed(&text, &short).into_bytes();
        bytes.extend(start);
    }
    Ok(files)
}

/// Takes the unused classes out of what the module exports.
fn drop_unused(output: &mut Output) {
    let name = UNUSED_CLASSES.to_lowercase();
    let exports = output.wasm().exports.iter();
    let unused: Vec<_> = exports
        .filter(|export| export.name.contains(&name))
        .map(|export| export.id())
        .collect();
    for id in unused {
        output.wasm_mut().exports.delete(id);
    }
}

/// Takes the unused classes out of the bindings. A statement of theirs begins at the beginning of a line
/// and goes on in lines that are indented or close what was opened.
fn without_unused(script: &str) -> String {
    let mut is_unused = false;
    let mut rest = String::with_capacity(script.len());
    for line in script.split_inclusive('\n') {
        if !line.starts_with([' ', '}', ')', '\n']) {
            is_unused = line.contains(UNUSED_CLASSES);
        }
        if !is_unused {
            rest.push_str(line);
        }
    }
    rest
}

/// Gives short names to what goes between module and bindings: each of wasm-bindgen's has a hash, which
/// nothing compresses.
fn shorten(output: &mut Output) -> HashMap<String, String> {
    let mut short = HashMap::new();
    let module = output.wasm_mut();
    for import in module.imports.iter_mut() {
        import.module = IMPORTED_FROM.to_owned();
    }
    let imports = module.imports.iter_mut().map(|import| &mut import.name);
    let exports = module.exports.iter_mut().map(|export| &mut export.name);
    for name in imports.chain(exports) {
        if name.starts_with("__wb") || name.starts_with("wasm_bindgen__") {
            let number = short.len();
            let short = short.entry(std::mem::take(name));
            name.clone_from(short.or_insert_with(|| format!("_{number}")));
        }
    }
    short
}

/// The script with other names for these of its identifiers.
fn renamed(script: &str, names: &HashMap<String, String>) -> String {
    let is_outside = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '$';
    let words = script.split_inclusive(is_outside);
    words
        .map(|word| {
            let (name, end) = match word.char_indices().next_back() {
                Some((at, c)) if is_outside(c) => word.split_at(at),
                _ => (word, ""),
            };
            [names.get(name).map_or(name, String::as_str), end].concat()
        })
        .collect()
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, fs::read(entry.path())?));
        }
    }
    Ok(())
}

fn shrink(shrinkers: &Shrinkers, files: &mut [(String, Vec<u8>)], work: &Path) -> Result<()> {
    let Shrinkers { wasm_opt, terser } = shrinkers;
    for (name, bytes) in files {
        let (tool, options) = match name.rsplit_once('.') {
            Some((_, "wasm")) => (wasm_opt, &WASM_OPT[..]),
            Some((_, "js")) => (terser, &TERSER[..]),
            _ => continue,
        };
        let (before, after) = (work.join("before"), work.join("after"));
        fs::write(&before, &bytes)?;
        Step::new(tool)
            .arg(&before)
            .args(options)
            .arg("-o")
            .arg(&after)
            .run("look at what it says above")?;
        let tool = tool.file_name().unwrap_or_default().to_string_lossy();
        say(&format!("{name}: {} KiB before {tool}", bytes.len() >> 10));
        *bytes = fs::read(after)?;
    }
    Ok(())
}

/// Writes a file and its two compressed forms.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file stands in a folder")?)?;
    fs::write(path, bytes)?;
    let named = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    let mut brotli = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: if toolchain::is_quick() { 2 } else { 11 },
        lgwin: 22,
        ..Default::default()
    };
    brotli::BrotliCompress(&mut &bytes[..], &mut brotli, &parameters)?;
    fs::write(named("br"), &brotli)?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(bytes)?;
    let gzip = gzip.finish()?;
    fs::write(named("gz"), &gzip)?;
    if let Some(name) = path.file_name() {
        say(&format!(
            "{}: {} KiB, {} KiB as brotli, {} KiB as gzip",
            name.to_string_lossy(),
            bytes.len().div_ceil(1024),
            brotli.len().div_ceil(1024),
            gzip.len().div_ceil(1024)
        ));
    }
    Ok(())
}

/// Puts together the files that `style/main.css` imports, in their order, without comments and indents.
fn style() -> Result<String> {
    let folder = root().join("style");
    let main = fs::read_to_string(folder.join("main.css")).context("style/main.css is missing")?;
    let mut whole = String::new();
    for line in main.lines() {
        match line.trim().strip_prefix("@import") {
            Some(import) => {
                let name: String = import
                    .chars()
                    .filter(|c| !matches!(c, '"' | '\'' | ';' | '(' | ')' | ' '))
                    .collect();
                let name = name.trim_start_matches("url").trim_start_matches("./");
                let part = fs::read_to_string(folder.join(name))
                    .with_context(|| format!("style/{name} is missing, and main.css imports it"))?;
                whole.push_str(&part);
            }
            None => {
                whole.push_str(line);
                whole.push('\n');
            }
        }
    }
    while let Some((before, rest)) = whole.split_once("/*") {
        let after = rest.split_once("*/").map_or("", |(_, after)| after);
        whole = [before, after].concat();
    }
    let lines = whole.lines().map(str::trim);
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    Ok(lines.join("\n"))
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// The first 16 hexadecimal digits of the SHA-256 of the parts.
fn hash(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest
        .finalize()
        .iter()
        .take(8)
        .map(|octet| format!("{octet:02x}"))
        .collect()
}
