//! What a source file names and calls, from its words and signs: imports are followed, whatever they are called here.

use std::collections::{BTreeMap, BTreeSet};

use crate::arrows::tree;

/// One file.
#[derive(Default)]
pub(crate) struct Code {
    /// Paths, with imported names replaced by what they stand for; a macro's ends with `!`.
    paths: BTreeSet<String>,
    /// Methods that are called.
    methods: BTreeSet<String>,
    /// Every word, and every number as it is written but for its underscores and its type.
    words: BTreeSet<String>,
}

impl Code {
    /// Reads what [`crate::arrows::Crate::tokens`] gives.
    pub(crate) fn read(tokens: &[String]) -> Self {
        let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut code = Self::default();
        let at = |i: usize| tokens.get(i).map_or("", String::as_str);
        for i in (0..tokens.len()).filter(|i| at(*i) == "use") {
            tree(tokens, i + 1, Vec::new(), &mut |path, name| {
                code.paths.insert(path.join("::"));
                imports.insert(name, path);
            });
        }
        let is_word = |token: &str| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let is_number = |token: &str| token.starts_with(|c: char| c.is_ascii_digit());
        for i in 0..tokens.len() {
            let before = if i == 0 { "" } else { at(i - 1) };
            if is_number(at(i)) && before != "." {
                let point = if at(i + 1) == "." && is_number(at(i + 2)) {
                    [".", at(i + 2)].concat()
                } else {
                    String::new()
                };
                let number = [at(i), &point].concat().replace('_', "");
                code.words.insert(number.trim_end_matches("f32").trim_end_matches("f64").to_owned());
            }
            if !is_word(at(i)) {
                continue;
            }
            code.words.insert(at(i).to_owned());
            if before == "." {
                // With or without types between the name and its arguments.
                if matches!(at(i + 1), "(" | "::") {
                    code.methods.insert(at(i).to_owned());
                }
                continue;
            }
            if before == "::" {
                continue;
            }
            let mut path = imports.get(at(i)).cloned().unwrap_or_else(|| vec![at(i).to_owned()]);
            let mut end = i;
            while at(end + 1) == "::" && is_word(at(end + 2)) {
                path.push(at(end + 2).to_owned());
                end += 2;
            }
            let sign = if at(end + 1) == "!" && at(end + 2) != "=" { "!" } else { "" };
            code.paths.insert(path.join("::") + sign);
        }
        code
    }

    /// Whether the file uses `path` or something in it; a path may be given from any of its parts on.
    pub(crate) fn names(&self, path: &str) -> bool {
        let within = [path, "::"].concat();
        self.paths.iter().any(|found| {
            let after = |part: &str| part == path || part.starts_with(&within);
            after(found) || found.match_indices("::").any(|(at, sign)| after(&found[at + sign.len()..]))
        })
    }

    /// The names that follow `owner` in paths, such as `flex` in `Device::flex`.
    pub(crate) fn members(&self, owner: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for path in &self.paths {
            let parts: Vec<&str> = path.split("::").collect();
            found.extend(parts.windows(2).filter(|pair| pair[0] == owner).map(|pair| pair[1]));
        }
        found
    }

    /// Whether a method or associated function of this name is called.
    pub(crate) fn calls(&self, method: &str) -> bool {
        let end = ["::", method].concat();
        self.methods.contains(method) || self.paths.iter().any(|path| path.ends_with(&end))
    }

    /// Whether the word or number stands anywhere.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.contains(word)
    }

    /// The numbers with a point.
    pub(crate) fn fractions(&self) -> impl Iterator<Item = &str> {
        let is_fraction = |word: &&String| word.contains('.');
        self.words.iter().filter(is_fraction).map(String::as_str)
    }
}
