//! The pages of the documentation as tests read them: code blocks, links and headings of a Markdown file.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use super::root;

/// One Markdown file of the repository.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path in the repository, for example `docs/http.md`.
    pub path: String,
    pub text: String,
}

/// A fenced code block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    pub language: String,
    pub text: String,
}

impl Page {
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Every page below `docs`, by path.
    pub fn all() -> Vec<Self> {
        let (mut folders, mut pages) = (vec![root().join("docs")], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    pages.push(Self::read(path.strip_prefix(root()).unwrap().to_str().unwrap()));
                }
            }
        }
        pages.sort_by(|a, b| a.path.cmp(&b.path));
        assert!(pages.len() > 15, "{pages:?}");
        pages
    }

    /// All code blocks, without the indentation that a list gives them.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else { continue };
            let indent = line.len() - line.trim_start().len();
            let body = lines.by_ref().take_while(|line| line.trim_start() != "```");
            let text: String = body.map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n").collect();
            blocks.push(Block { language: language.to_owned(), text });
        }
        blocks
    }

    /// The code blocks of one language, in order.
    pub fn blocks_of(&self, language: &str) -> Vec<String> {
        self.blocks().into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
    }

    /// The one block of a language that contains this.
    pub fn block(&self, language: &str, part: &str) -> String {
        let mut found = self.blocks_of(language);
        found.retain(|block| block.contains(part));
        assert_eq!(found.len(), 1, "{} has {} blocks of {language} with {part}", self.path, found.len());
        found.remove(0)
    }

    /// Its lines outside code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut inside = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            inside ^= is_fence;
            !inside && !is_fence
        })
    }

    /// What it links to, pictures included.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for line in self.prose() {
            // Text in backticks is not a link.
            let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
            for (opening, closing) in [("](", ')'), ("href=\"", '"'), ("src=\"", '"')] {
                links.extend(text.split(opening).skip(1).map(|rest| rest.split(closing).next().unwrap().to_owned()));
            }
        }
        links
    }

    /// The anchors of its headings, as GitHub and mdbook make them.
    pub fn anchors(&self) -> HashSet<String> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let slug = slug(line.trim_start_matches('#').trim());
                let count = seen.entry(slug.clone()).or_default();
                *count += 1;
                if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
            })
            .collect()
    }
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
