//! Whether embeddings find what they should: queries, and which documents are relevant to each.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// A query as it is asked: with the ids of its relevant documents, each with its gain from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The query.
    pub text: String,
    relevant: Vec<(String, f64)>,
    line: u64,
}

/// A query with its relevant documents: their places among the documents, and how relevant each is.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The query.
    pub text: String,
    /// Places and gains, over 0.
    pub relevant: Vec<(usize, f64)>,
}

/// Means over all queries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retrieval {
    /// Queries.
    pub queries: usize,
    /// Documents.
    pub documents: usize,
    /// k, and the share of the relevant documents that are among the first k.
    pub recall: Vec<(usize, f64)>,
    /// nDCG@10: Σ gain / log₂(1 + rank) over the first ten, as a share of the most it could be (Järvelin and Kekäläinen, TOIS 2002, with the gain as it is).
    pub ndcg_at_10: f64,
    /// One over the rank of the first relevant document, where it is among the first ten.
    pub mrr_at_10: f64,
}

/// Reads queries: `{"query": text, "relevant": [id, …]}`, or `"relevant": {id: gain, …}`, a line each.
pub fn read_queries(path: &Path) -> Result<Vec<Asked>> {
    let text = std::fs::read_to_string(path).map_err(cloze_shard::Error::io(path))?;
    let mut queries = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let wrong = |why: String, hint: &str| wrong(path, number, why, hint);
        if line.trim().is_empty() {
            continue;
        }
        let shape = "give {\"query\": \"…\", \"relevant\": [ids]} a line";
        let value: Value =
            serde_json::from_str(line).map_err(|e| wrong(format!("broken JSON: {e}"), shape))?;
        let text = value["query"].as_str();
        let text = text.ok_or_else(|| wrong("has no query".into(), shape))?;
        let name = |id: &Value| match id {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        let gains: Vec<(String, Option<f64>)> = match &value["relevant"] {
            Value::Array(ids) => ids.iter().map(|id| (name(id), Some(1.0))).collect(),
            Value::Object(gains) => gains
                .iter()
                .map(|(id, g)| (id.clone(), g.as_f64()))
                .collect(),
            _ => return Err(wrong("has no relevant documents".into(), shape)),
        };
        let mut relevant: Vec<(String, f64)> = Vec::new();
        for (id, gain) in gains {
            let gain = gain.filter(|g| g.is_finite() && *g >= 0.0);
            let gain = gain
                .ok_or_else(|| wrong(format!("the gain of {id:?} is no number from 0"), shape))?;
            relevant.push((id, gain));
        }
        if !relevant.iter().any(|(_, gain)| *gain > 0.0) {
            return Err(wrong("has no relevant documents".into(), shape));
        }
        queries.push(Asked {
            text: text.to_owned(),
            relevant,
            line: number,
        });
    }
    if queries.is_empty() {
        return Err(Error::Data {
            path: path.into(),
            place: String::new(),
            why: "holds no query".into(),
            hint: "give {\"query\": \"…\", \"relevant\": [ids]} a line".into(),
        });
    }
    Ok(queries)
}

/// Finds the documents that queries of `path` name: `documents` says where each id is. Of a document that is named twice the first gain counts.
pub fn place_queries(
    path: &Path,
    asked: Vec<Asked>,
    documents: &HashMap<String, usize>,
) -> Result<Vec<Query>> {
    let place = |asked: Asked| {
        let mut relevant: Vec<(usize, f64)> = Vec::new();
        for (id, gain) in asked.relevant {
            let place = documents.get(&id).copied().ok_or_else(|| {
                let why = format!("names the document {id:?}, which is not among the texts");
                let hint = "embed the documents with their ids: see --id-field";
                wrong(path, asked.line, why, hint)
            })?;
            if gain > 0.0 && !relevant.iter().any(|(p, _)| *p == place) {
                relevant.push((place, gain));
            }
        }
        Ok(Query {
            text: asked.text,
            relevant,
        })
    };
    asked.into_iter().map(place).collect()
}

fn wrong(path: &Path, line: u64, why: String, hint: &str) -> Error {
    Error::Data {
        path: path.into(),
        place: format!("line {line}: "),
        why,
        hint: hint.into(),
    }
}

/// Of one query: recall at each k, nDCG, and one over the first rank.
type Found = ([f64; 4], f64, f64);

/// Looks all documents up for each query, by the cosine of their vectors, which are finite; of equal ones the first comes first.
#[must_use]
pub fn measure(queries: &[Query], vectors: &[Vec<f32>], documents: &[Vec<f32>]) -> Retrieval {
    let ks = [1, 5, 10, 100];
    let norms: Vec<f64> = documents
        .iter()
        .map(|d| dot(d, d).sqrt().max(1e-12))
        .collect();
    let each = queries.par_iter().zip(vectors);
    let found: Vec<Found> = each
        .map(|(query, vector)| {
            let scores: Vec<f64> = (documents.iter().zip(&norms))
                .map(|(d, norm)| dot(vector, d) / norm)
                .collect();
            // One more than the documents that come before it.
            let rank = |place: usize| {
                let own = scores[place];
                let before = scores.iter().enumerate();
                1 + before
                    .filter(|&(i, &s)| s > own || (s == own && i < place))
                    .count()
            };
            let ranks: Vec<(usize, f64)> =
                query.relevant.iter().map(|&(p, g)| (rank(p), g)).collect();
            let all = ranks.len() as f64;
            let recall = ks.map(|k| ranks.iter().filter(|(r, _)| *r <= k).count() as f64 / all);
            let discount = |rank: usize| (1.0 + rank as f64).log2();
            let gained = ranks.iter().filter(|(r, _)| *r <= 10);
            let gained: f64 = gained.map(|&(r, g)| g / discount(r)).sum();
            let mut best: Vec<f64> = ranks.iter().map(|(_, g)| *g).collect();
            best.sort_by(|a, b| b.total_cmp(a));
            let most = best.iter().take(10).zip(1..);
            let most: f64 = most.map(|(g, rank)| g / discount(rank)).sum();
            let first = ranks.iter().map(|(r, _)| *r).min().unwrap_or(usize::MAX);
            let reciprocal = if first <= 10 { 1.0 / first as f64 } else { 0.0 };
            (recall, gained / most, reciprocal)
        })
        .collect();
    let mean =
        |of: &dyn Fn(&Found) -> f64| found.iter().map(of).sum::<f64>() / found.len().max(1) as f64;
    Retrieval {
        queries: queries.len(),
        documents: documents.len(),
        recall: ks
            .into_iter()
            .enumerate()
            .map(|(i, k)| (k, mean(&|f| f.0[i])))
            .collect(),
        ndcg_at_10: mean(&|f| f.1),
        mrr_at_10: mean(&|f| f.2),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum()
}

/// Where each id of the texts is; an id that is there twice is an error.
pub fn places(texts: &Path, ids: &[Option<String>]) -> Result<HashMap<String, usize>> {
    let mut places = HashMap::new();
    for (place, id) in ids.iter().enumerate() {
        let wrong = |why: String| Error::Data {
            path: texts.into(),
            place: format!("text {}: ", place + 1),
            why,
            hint: "queries name documents by their ids: see --id-field".into(),
        };
        let id = id.as_ref().ok_or_else(|| wrong("has no id".into()))?;
        if places.insert(id.clone(), place).is_some() {
            return Err(wrong(format!("has the id {id:?} of another")));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_by_hand() {
        // Three documents along the axes and one between; a query along the first.
        let documents = [[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [1.0, 1.0]].map(Vec::from);
        let vectors = [vec![5.0, 0.0], vec![0.0, -1.0]];
        let query = |relevant: &[(usize, f64)]| Query {
            text: String::new(),
            relevant: relevant.into(),
        };
        // Ranks of the first query: 0, 3, 1, 2. Of the second: 0 and 2 are equal, then 3, then 1.
        let queries = [query(&[(0, 1.0), (1, 3.0)]), query(&[(2, 1.0)])];
        let found = measure(&queries, &vectors, &documents);
        assert_eq!((found.queries, found.documents), (2, 4));
        let log = |x: f64| x.log2();
        let first = (1.0 + 3.0 / log(4.0)) / (3.0 + 1.0 / log(3.0));
        let second = (1.0 / log(3.0)) / 1.0;
        assert!(
            (found.ndcg_at_10 - (first + second) / 2.0).abs() < 1e-12,
            "{found:?}"
        );
        assert!((found.mrr_at_10 - (1.0 + 0.5) / 2.0).abs() < 1e-12);
        assert_eq!(found.recall, [(1, 0.25), (5, 1.0), (10, 1.0), (100, 1.0)]);
    }
}
