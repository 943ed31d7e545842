//! The walls between crates: who may link what, transitively. Dev-dependencies do not count.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};

/// A crate, and what it must never link.
const WALLS: [(&str, &[&str]); 18] = [
    (
        "cloze-clean",
        &[
            "cloze-kernels",
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-train",
            "cloze-cli",
            "tokenizers",
            "candle-core",
            "arrow-array",
        ],
    ),
    (
        "cloze-sentences",
        &[
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-kernels",
            "cloze-train",
            "cloze-cli",
            "clap",
        ],
    ),
    (
        "cloze-wordpiece",
        &[
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-kernels",
            "cloze-train",
            "cloze-cli",
            "tokenizers",
            "clap",
        ],
    ),
    (
        "cloze-bench",
        &[
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-train",
            "cloze-task",
            "cloze-cli",
            "serde",
            "clap",
        ],
    ),
    (
        "cloze-metrics",
        &[
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-train",
            "cloze-task",
            "cloze-cli",
            "serde",
            "clap",
        ],
    ),
    (
        "cloze-page",
        &[
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-kernels",
            "cloze-train",
            "cloze-task",
            "cloze-cli",
            "clap",
            "serde",
        ],
    ),
    (
        "cloze-kernels",
        &[
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-train",
            "cloze-cli",
            "candle-core",
            "clap",
        ],
    ),
    (
        "cloze-shard",
        &[
            "cloze-kernels",
            "tokenizers",
            "candle-core",
            "rayon",
            "clap",
            "cloze-text",
            "cloze-prep",
            "cloze-convert",
            "cloze-train",
            "cloze-cli",
            "parquet",
        ],
    ),
    (
        "cloze-text",
        &[
            "cloze-kernels",
            "cloze-shard",
            "cloze-prep",
            "cloze-train",
            "cloze-cli",
            "candle-core",
            "clap",
        ],
    ),
    (
        "cloze-prep",
        &["cloze-kernels", "cloze-train", "cloze-cli", "candle-core"],
    ),
    (
        "cloze-convert",
        &[
            "cloze-kernels",
            "cloze-prep",
            "cloze-train",
            "cloze-cli",
            "candle-core",
            "clap",
        ],
    ),
    (
        "cloze-train",
        &[
            "cloze-prep",
            "cloze-convert",
            "cloze-cli",
            "clap",
            "tokenizers",
            "parquet",
        ],
    ),
    ("cloze-task", &["cloze-prep", "cloze-cli", "clap"]),
    (
        "cloze-cli",
        &[
            "cloze-kernels",
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-train",
            "tokenizers",
            "candle-core",
            "arrow-array",
        ],
    ),
    ("cloze", &["cloze-train", "cloze-task", "candle-core"]),
    ("cloze-train-bin", &["cloze-prep"]),
    (
        "cloze-gpu",
        &["cloze-prep", "cloze-text", "cloze-cli", "tokenizers"],
    ),
    (
        "xtask",
        &[
            "cloze-kernels",
            "cloze-shard",
            "cloze-text",
            "cloze-prep",
            "cloze-train",
            "cloze-cli",
        ],
    ),
];

/// What other people's crates link without asking. Our code cannot name it, so it is not looked through; an edge that is gone must leave this list.
const THEIRS: [(&str, &str); 2] = [("candle-core", "tokenizers"), ("sentencex", "clap")];

/// What reaches objects that lie elsewhere. Without the feature `remote` nobody links it, and with it these two alone.
const REMOTE: [&str; 4] = ["object_store", "reqwest", "hyper", "tokio"];
const REACHES: [&str; 2] = ["cloze", "cloze-prep"];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every crate that each crate links, by name.
fn graph(features: &[&str]) -> Graph {
    let features = features.iter().map(|&f| f.into()).collect();
    let mut command = MetadataCommand::new();
    let metadata = command.features(CargoOpt::SomeFeatures(features));
    let metadata = metadata.exec().unwrap();
    let name: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.to_string()))
        .collect();
    let linked = |dep: &cargo_metadata::NodeDep| {
        dep.dep_kinds
            .iter()
            .any(|k| k.kind != DependencyKind::Development)
    };
    let nodes = metadata.resolve.as_ref().unwrap().nodes.iter();
    nodes
        .map(|n| {
            (
                name[&n.id].clone(),
                n.deps
                    .iter()
                    .filter(|d| linked(d))
                    .map(|d| name[&d.pkg].clone())
                    .collect(),
            )
        })
        .collect()
}

/// A way from `from` to `to`, if there is one.
fn way(graph: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        let here = way.last().unwrap();
        if here == to {
            return Some(way);
        }
        if seen.insert(here.clone()) {
            let known = |next: &&String| !THEIRS.contains(&(here.as_str(), next.as_str()));
            for next in graph.get(here).into_iter().flatten().filter(known) {
                ways.push([way.clone(), vec![next.clone()]].concat());
            }
        }
    }
    None
}

fn breaches(graph: &Graph) -> Vec<String> {
    let check = |(from, forbidden): &(&str, &[&str])| {
        forbidden
            .iter()
            .filter_map(|to| way(graph, from, to))
            .map(|w| w.join(" → "))
            .collect::<Vec<_>>()
    };
    WALLS.iter().flat_map(check).collect()
}

#[test]
fn no_crate_links_what_it_must_not() {
    let graph = graph(&[]);
    for (from, _) in WALLS {
        assert!(graph.contains_key(from), "there is no crate {from}");
    }
    for (from, to) in THEIRS {
        assert!(graph[from].contains(to), "{from} no longer links {to}");
    }
    let breaches = breaches(&graph);
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn a_breach_is_found_through_other_crates() {
    let mut graph = graph(&[]);
    graph
        .entry("half".into())
        .or_default()
        .insert("tokenizers".into());
    let found = breaches(&graph);
    assert!(
        found
            .iter()
            .any(|w| w.starts_with("cloze-shard → ") && w.ends_with("half → tokenizers")),
        "{found:#?}"
    );
}

#[test]
fn what_reaches_elsewhere_is_linked_where_it_is_asked_for() {
    let (without, with) = (graph(&[]), graph(&["cloze/remote"]));
    for (from, _) in WALLS {
        let reached = |graph| REMOTE.iter().filter_map(|to| way(graph, from, to)).count();
        assert_eq!(reached(&without), 0, "{from}");
        let expected = if REACHES.contains(&from) {
            REMOTE.len()
        } else {
            0
        };
        assert_eq!(reached(&with), expected, "{from}");
    }
    assert!(breaches(&with).is_empty());
}

/// Every crate of ours stands behind a wall, or is named here.
#[test]
fn no_crate_is_forgotten() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let known: BTreeSet<&str> = WALLS
        .iter()
        .map(|(name, _)| *name)
        .chain(["cloze-tests"])
        .collect();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(ours, known);
}
