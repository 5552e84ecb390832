//! Which source file of a crate uses which other, read from the text: `use` declarations, and paths that begin with
//! `crate`, `super`, `self`, a module or an imported name. Re-exports are followed to the file that holds the item.
//!
//! Tests are left out. What no path names (a method, a trait's implementation) is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The files of one crate and their arrows.
pub(crate) struct Crate {
    files: Vec<File>,
    modules: BTreeMap<Module, Names>,
}

/// The names from the crate's root down to a module.
type Module = Vec<String>;

struct File {
    /// Below `src`, with `/`.
    path: String,
    module: Module,
    tokens: Vec<String>,
    /// The words outside of imports.
    words: BTreeSet<String>,
}

/// What a module knows by name.
#[derive(Default)]
struct Names {
    file: usize,
    declared: BTreeSet<String>,
    imports: Vec<Import>,
}

#[derive(Clone)]
struct Import {
    /// The name here; `*` for all names.
    name: String,
    path: Vec<String>,
    is_public: bool,
}

/// Where a path ends: at a module, or at an item in a file.
enum Place {
    Module(Module),
    Item(usize),
}

/// Aliases of aliases that are followed at most.
const MOST_STEPS: usize = 16;

impl Crate {
    /// Reads the sources below `src`.
    pub(crate) fn read(src: &Path) -> Self {
        let mut paths = Vec::new();
        collect(src, String::new(), &mut paths);
        paths.sort();
        let has_library = paths.iter().any(|path| path == "lib.rs");
        let mut files: Vec<File> = paths
            .into_iter()
            .map(|path| {
                let text = fs::read_to_string(src.join(&path)).expect("a source");
                let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
                let last = module.last().cloned().unwrap_or_default();
                let is_root = path == "lib.rs" || path == "main.rs" && !has_library;
                if is_root || last == "mod" {
                    module.pop();
                }
                File { path, module, tokens: tokens(&text), words: BTreeSet::new() }
            })
            .collect();
        let mut only_tests = Vec::new();
        for file in &mut files {
            let (tokens, left_out) = without_tests(std::mem::take(&mut file.tokens));
            file.words = words(&tokens);
            file.tokens = tokens;
            only_tests.extend(left_out.into_iter().map(|name| [&file.module[..], &[name]].concat()));
        }
        files.retain(|file| !only_tests.iter().any(|module| file.module.starts_with(module)));
        let mut modules = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            names(index, file, &mut modules);
        }
        Self { files, modules }
    }

    /// For every file the files that it uses, in alphabetical order. That a module declares or re-exports what is below
    /// it is no use of it, unless it names it elsewhere, too.
    pub(crate) fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, file) in self.files.iter().enumerate() {
            let mut used = BTreeSet::new();
            for (module, names) in self.modules.iter().filter(|(_, names)| names.file == index) {
                for import in &names.imports {
                    let Some(target) = self.file_of(module, &import.path, false) else { continue };
                    let is_below = self.files[target].module.starts_with(&file.module);
                    if !(import.is_public && is_below) || file.words.contains(&import.name) {
                        used.insert(target);
                    }
                }
            }
            for (module, path) in paths_of(file) {
                used.extend(self.file_of(&module, &path, true));
            }
            used.remove(&index);
            arrows.insert(
                &file.path,
                used.into_iter().map(|target| self.files[target].path.as_str()).collect(),
            );
        }
        arrows
    }

    /// Every file below `src` with its words and signs, without comments, literals and tests.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.files.iter().map(|file| (file.path.as_str(), file.tokens.as_slice()))
    }

    /// The names of the modules at the crate's root.
    pub(crate) fn rooms(&self) -> BTreeSet<&str> {
        self.files.iter().filter_map(|file| file.module.first()).map(String::as_str).collect()
    }

    fn file_of(&self, module: &[String], path: &[String], locally: bool) -> Option<usize> {
        match self.place(module, path, locally, MOST_STEPS)? {
            Place::Item(file) => Some(file),
            Place::Module(module) => self.modules.get(&module).map(|names| names.file),
        }
    }

    /// What `path` means in `module`; nothing where another crate is meant. Names that the module imports count
    /// `locally`, in a path outside of its imports.
    fn place(&self, module: &[String], path: &[String], locally: bool, steps: usize) -> Option<Place> {
        let steps = steps.checked_sub(1)?;
        let mut at = module.to_vec();
        let mut rest = path;
        let mut anchored = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                _ => break,
            }
            anchored = true;
            rest = after;
        }
        if !anchored {
            let first = path.first()?;
            let names = self.modules.get(module)?;
            let is_child = self.modules.contains_key(&[module, std::slice::from_ref(first)].concat());
            let is_imported = locally && names.imports.iter().any(|import| import.name == *first);
            if !is_child && !is_imported {
                return None;
            }
        }
        for (position, name) in rest.iter().enumerate() {
            let child = [&at[..], std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            let names = self.modules.get(&at)?;
            if names.declared.contains(name) {
                return Some(Place::Item(names.file));
            }
            if let Some(import) = names.imports.iter().find(|import| import.name == *name) {
                return match self.place(&at, &import.path, false, steps)? {
                    Place::Module(found) => {
                        let further = [&["self".to_owned()], &rest[position + 1..]].concat();
                        self.place(&found, &further, false, steps)
                    }
                    Place::Item(file) => Some(Place::Item(file)),
                };
            }
            let all = names.imports.iter().filter(|import| import.name == "*");
            let found = all.filter_map(|import| match self.place(&at, &import.path, false, steps)? {
                Place::Module(found) => {
                    let names = self.modules.get(&found)?;
                    names.declared.contains(name).then_some(names.file)
                }
                Place::Item(_) => None,
            });
            return Some(Place::Item(found.take(1).next().unwrap_or(names.file)));
        }
        Some(Place::Module(at))
    }
}

/// The groups of files that use each other, directly or through others.
pub(crate) fn circles<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (*file, reached(file, arrows))).collect();
    let mut circles: Vec<BTreeSet<&str>> = Vec::new();
    for file in arrows.keys() {
        if !reach[file].contains(file) || circles.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        circles.push(reach[file].iter().copied().filter(|other| reach[other].contains(file)).collect());
    }
    circles
}

fn reached<'a>(file: &str, arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = arrows[file].iter().copied().collect();
    while let Some(file) = next.pop() {
        if found.insert(file) {
            next.extend(&arrows[file]);
        }
    }
    found
}

fn collect(folder: &Path, prefix: String, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), format!("{path}/"), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Words, `::`, and single signs; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i += 2;
            while i < chars.len() && !(chars[i] == '*' && at(i + 1) == '/') {
                i += 1;
            }
            i += 2;
        } else if c == '"' {
            i = behind_string(&chars, i);
        } else if c == '\'' {
            // A character, or a lifetime.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
            }
        } else if is_word(c) {
            let begin = i;
            while is_word(at(i)) {
                i += 1;
            }
            let word: String = chars[begin..i].iter().collect();
            let hashes = chars[i..].iter().take_while(|sign| **sign == '#').count();
            if matches!(word.as_str(), "r" | "br") && at(i + hashes) == '"' {
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                i += hashes + 1;
                while i < chars.len() && !chars[i..].starts_with(&end) {
                    i += 1;
                }
                i += end.len();
            } else if !(word == "b" && matches!(at(i), '"' | '\'')) {
                found.push(word);
            }
        } else if c == ':' && at(i + 1) == ':' {
            found.push("::".to_owned());
            i += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.to_string());
            }
            i += 1;
        }
    }
    found
}

fn behind_string(chars: &[char], begin: usize) -> usize {
    let mut i = begin + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// What is compiled without tests, and the names of the modules that hold nothing else.
fn without_tests(tokens: Vec<String>) -> (Vec<String>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        if !MARK.iter().enumerate().all(|(k, sign)| tokens.get(i + k).is_some_and(|token| token == sign)) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += MARK.len();
        // The item ends with its braces, or with a semicolon outside of any brackets.
        let (mut depth, mut name) = (0_i32, None);
        while i < tokens.len() {
            let token = tokens[i].as_str();
            i += 1;
            match token {
                "mod" if depth == 0 => name = tokens.get(i).cloned(),
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                ";" if depth == 0 => {
                    modules.extend(name);
                    break;
                }
                _ => {}
            }
        }
    }
    (kept, modules)
}

fn words(tokens: &[String]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i] == "use" {
            i = tree(tokens, i + 1, Vec::new(), &mut |_, _| {});
        } else if tokens[i] == "mod" {
            i += 2;
        } else {
            words.insert(tokens[i].clone());
            i += 1;
        }
    }
    words
}

/// Follows the modules that are written out in a file.
struct Walk<'a> {
    module: Module,
    /// The depth of braces, and at which depth a module within the file began.
    depth: usize,
    inner: Vec<usize>,
    tokens: &'a [String],
}

impl<'a> Walk<'a> {
    fn new(file: &'a File) -> Self {
        Self { module: file.module.clone(), depth: 0, inner: Vec::new(), tokens: &file.tokens }
    }

    /// Takes in the token at `i`; whether it stands at the level of items of its module.
    fn step(&mut self, i: usize) -> bool {
        let is_item = self.depth == self.inner.last().map_or(0, |depth| depth + 1);
        match self.tokens[i].as_str() {
            "{" => {
                if i >= 2 && self.tokens[i - 2] == "mod" {
                    self.module.push(self.tokens[i - 1].clone());
                    self.inner.push(self.depth);
                }
                self.depth += 1;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.inner.last() == Some(&self.depth) {
                    self.inner.pop();
                    self.module.pop();
                }
            }
            _ => {}
        }
        is_item
    }
}

/// Notes what the modules of a file declare and import.
fn names(index: usize, file: &File, modules: &mut BTreeMap<Module, Names>) {
    const ITEMS: [&str; 9] =
        ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "macro_rules"];
    modules.entry(file.module.clone()).or_default().file = index;
    let mut walk = Walk::new(file);
    let tokens = &file.tokens;
    let mut i = 0;
    while i < tokens.len() {
        let is_item = walk.step(i);
        let names = modules.entry(walk.module.clone()).or_default();
        names.file = index;
        if tokens[i] == "use" {
            let is_public = i > 0 && (tokens[i - 1] == "pub" || tokens[i - 1] == ")");
            i = tree(tokens, i + 1, Vec::new(), &mut |path, name| {
                names.imports.push(Import { name, path, is_public });
            });
            continue;
        }
        if is_item && ITEMS.contains(&tokens[i].as_str()) {
            let name = tokens[i + 1..].iter().find(|token| !matches!(token.as_str(), "!" | "mut"));
            names.declared.extend(name.cloned());
        }
        i += 1;
    }
}

/// Reads a tree of imports from `i` on, and gives the position behind it.
pub(crate) fn tree(
    tokens: &[String],
    mut i: usize,
    mut path: Vec<String>,
    found: &mut impl FnMut(Vec<String>, String),
) -> usize {
    let mut name = None;
    while let Some(token) = tokens.get(i) {
        match token.as_str() {
            "::" => {}
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|token| token != "}") {
                    i = tree(tokens, i, path.clone(), found);
                    if tokens.get(i).is_some_and(|token| token == ",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            "as" => {
                i += 1;
                name = tokens.get(i).cloned();
            }
            "*" => name = Some("*".to_owned()),
            "," | ";" | "}" => break,
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        i += 1;
    }
    let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
    found(path, name);
    i
}

/// The paths in a file outside of its imports, each with the module that it stands in.
fn paths_of(file: &File) -> Vec<(Module, Vec<String>)> {
    let tokens = &file.tokens;
    let mut walk = Walk::new(file);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        walk.step(i);
        if tokens[i] == "use" {
            i = tree(tokens, i + 1, Vec::new(), &mut |_, _| {});
            continue;
        }
        let begins = i == 0 || !matches!(tokens[i - 1].as_str(), "::" | ".");
        let is_word = |token: &String| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if begins && is_word(&tokens[i]) && tokens.get(i + 1).is_some_and(|token| token == "::") {
            let mut path = vec![tokens[i].clone()];
            while tokens.get(i + 1).is_some_and(|token| token == "::")
                && tokens.get(i + 2).is_some_and(is_word)
            {
                path.push(tokens[i + 2].clone());
                i += 2;
            }
            found.push((walk.module.clone(), path));
        }
        i += 1;
    }
    found
}
