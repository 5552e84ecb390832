//! Draws which crate uses which, and which room of a crate uses which, as Mermaid diagrams.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::arrows;

/// Names, and what each uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The diagrams of the workspace at `root`; of each crate in `rooms` one with its rooms.
pub(crate) fn picture(root: &Path, rooms: &[(&str, &[&str])]) -> String {
    let mut text = String::from("Crates:\n\n");
    text.push_str(&diagram(&crates(root)));
    for (name, listed) in rooms {
        let arrows = rooms_of(&root.join("crates").join(name).join("src"), listed);
        if arrows.values().any(|used| !used.is_empty()) {
            write!(text, "\nRooms of `{name}`:\n\n{}", diagram(&arrows)).expect("a string");
        }
    }
    text
}

/// What the manifests of the crates name among the other crates.
fn crates(root: &Path) -> Arrows {
    let folders = fs::read_dir(root.join("crates")).expect("crates").flatten();
    let names: BTreeSet<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let used = |name: &String| {
        let path = root.join("crates").join(name).join("Cargo.toml");
        let manifest: toml::Table =
            toml::from_str(&fs::read_to_string(path).expect("a manifest")).expect("TOML");
        let dependencies = manifest["dependencies"].as_table().expect("a table");
        dependencies.keys().filter(|dependency| names.contains(*dependency)).cloned().collect()
    };
    names.iter().map(|name| (name.clone(), used(name))).collect()
}

/// Which modules at the root of a crate use which.
fn rooms_of(src: &Path, listed: &[&str]) -> Arrows {
    let source = arrows::Crate::read(src);
    let mut found: Arrows = listed.iter().map(|room| ((*room).to_owned(), BTreeSet::new())).collect();
    let room = |file: &str| file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    for (file, used) in source.arrows() {
        let from = room(file);
        let Some(arrows) = found.get_mut(&from) else { continue };
        arrows.extend(used.into_iter().map(room).filter(|to| *to != from && listed.contains(&to.as_str())));
    }
    found
}

/// A Mermaid flowchart without the arrows that follow from others.
fn diagram(arrows: &Arrows) -> String {
    let mut text = String::from("```mermaid\nflowchart RL\n");
    for (from, used) in arrows {
        if used.is_empty() && !arrows.values().any(|used| used.contains(from)) {
            writeln!(text, "  {from}").expect("a string");
        }
        for to in used {
            let others = used.iter().filter(|other| *other != to);
            if !others.into_iter().any(|other| leads(arrows, other, to)) {
                writeln!(text, "  {from} --> {to}").expect("a string");
            }
        }
    }
    text.push_str("```\n");
    text
}

/// Whether the arrows lead from one name to another. There are no circles among them.
fn leads(arrows: &Arrows, from: &str, to: &str) -> bool {
    arrows.get(from).is_some_and(|used| used.contains(to) || used.iter().any(|next| leads(arrows, next, to)))
}
