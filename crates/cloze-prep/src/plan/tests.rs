use super::*;
use crate::Silent;
use crate::pairing::Span;
use crate::pairing::tests_support::InMemory;
use proptest::prelude::*;

proptest! {
    #[test]
    fn recipes_survive_encoding(
        a in (0u64..1 << 46, any::<u32>(), any::<u16>(), prop::option::of(0..u32::MAX)),
        b in (0u64..1 << 46, any::<u32>(), any::<u16>(), prop::option::of(0..u32::MAX)),
        kind in 0u8..3,
    ) {
        let span = |(document, start, len, sentence)| Span { document, start, len: u16::into(len), sentence };
        let b = (kind > 0).then_some((span(b), kind == 2));
        let recipe = Recipe { a: span(a), b };
        prop_assert_eq!(decode(&encode(&recipe)), recipe);
    }
}

fn documents() -> InMemory {
    let lengths: Vec<Vec<u32>> = (0..5_000u32)
        .map(|i| (0..1 + i % 9).map(|j| 5 + (i * 7 + j) % 60).collect())
        .collect();
    InMemory::new(&lengths)
}

fn configs() -> Vec<Config> {
    use ObjectiveKind::*;
    let of = |objective, pairing, bins: &[u16]| Config {
        objective,
        pairing,
        bins: bins.to_vec(),
        dupe_factor: 3,
        ..Config::default()
    };
    vec![
        of(Nsp, Pairing::Cloze, &[]),
        of(Nsp, Pairing::Bert, &[32, 64]),
        of(Sop, Pairing::Cloze, &[]),
        of(FullSentences, Pairing::Cloze, &[40]),
        of(DocSentences, Pairing::Cloze, &[]),
    ]
}

fn planned(
    documents: &InMemory,
    config: &Config,
    paths: &[PathBuf],
    sorting: Option<Sorting<'_>>,
) -> Planned {
    let (totals, kinds) = (documents.totals(), documents.kinds());
    let planner = Planner::new(config, totals, kinds, paths, sorting);
    let planners = std::slice::from_ref(&planner);
    let mut drafted = draft(planners, &Postponed::default(), |_| documents, &Silent).unwrap();
    let drafted = drafted.remove(0);
    planner.finish(drafted, documents, &Silent).unwrap().0
}

/// Neither on threads nor on whether what is wanted from elsewhere is sorted; also where most ask again, or nothing else is there.
#[test]
fn plans_do_not_depend_on_how_they_are_made() {
    let twins = |n: usize| {
        let twins = InMemory::new(&vec![vec![9, 4, 20, 3]; n]);
        (2..n).fold(twins, |twins, i| twins.with_doc(i, 1))
    };
    let folder = tempfile::tempdir().unwrap();
    for (which, documents) in [documents(), twins(700), twins(1)].iter().enumerate() {
        for (number, config) in configs().iter().enumerate() {
            let with = |jobs: usize, memory: Option<u64>| {
                let name = |i| folder.path().join(format!("{which}-{number}-{jobs}-{i}"));
                let paths: Vec<PathBuf> = (0..config.bins().len()).map(name).collect();
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(jobs)
                    .build()
                    .unwrap();
                let sorting = memory.map(|memory| Sorting {
                    memory: Memory::new(Some(memory)),
                    folder: folder.path(),
                });
                let planned = pool.install(|| planned(documents, config, &paths, sorting));
                let bytes: Vec<Vec<u8>> = paths.iter().map(|p| std::fs::read(p).unwrap()).collect();
                (planned, bytes)
            };
            let one = with(1, None);
            assert!(one.0.rows > 0);
            for (jobs, memory) in [(2, None), (5, None), (1, Some(1 << 14)), (3, Some(1 << 30))] {
                assert!(
                    one == with(jobs, memory),
                    "{which} {number} {jobs} {memory:?}"
                );
            }
        }
    }
    let plan = Plan::open(&folder.path().join("0-0-1-0")).unwrap();
    assert!(plan.rows() > 3 * 5_000);
    assert_eq!(plan.recipe(0).a.document, 0);
    assert_eq!(plan.recipe(plan.rows() - 1).a.document, 4_999);
}

/// Bins take the rows apart by length, and lose none.
#[test]
fn bins_are_by_length() {
    let (documents, folder) = (documents(), tempfile::tempdir().unwrap());
    let rows = |bins: &[u16]| -> Vec<Vec<Recipe>> {
        let config = Config {
            bins: bins.to_vec(),
            ..Config::default()
        };
        let paths: Vec<PathBuf> = (0..config.bins().len())
            .map(|i| folder.path().join(format!("{}-{i}", bins.len())))
            .collect();
        let planned = planned(&documents, &config, &paths, None);
        let plans: Vec<Plan> = paths.iter().map(|p| Plan::open(p).unwrap()).collect();
        assert_eq!(planned.rows, plans.iter().map(Plan::rows).sum::<u64>());
        plans
            .iter()
            .map(|p| (0..p.rows()).map(|i| p.recipe(i)).collect())
            .collect()
    };
    let (all, binned) = (&rows(&[])[0], rows(&[32, 100]));
    let len = |r: &Recipe| 2 + r.a.len + r.b.map_or(0, |(b, _)| b.len + 1);
    for (bin, (low, high)) in binned.iter().zip([(0, 32), (32, 100), (100, 128)]) {
        let wanted: Vec<Recipe> = all
            .iter()
            .filter(|r| (low + 1..=high).contains(&len(r)))
            .copied()
            .collect();
        assert!(wanted.len() > 50 && *bin == wanted);
    }
}

/// Half of the pairs of sentence order prediction are turned around, and nothing else is another than in order.
#[test]
fn sop_turns_half_around() {
    let (documents, folder) = (documents(), tempfile::tempdir().unwrap());
    let config = Config {
        objective: ObjectiveKind::Sop,
        ..Config::default()
    };
    let path = folder.path().join("sop");
    planned(&documents, &config, std::slice::from_ref(&path), None);
    let plan = Plan::open(&path).unwrap();
    let mut turned = 0;
    let mut pairs = 0;
    for i in 0..plan.rows() {
        let recipe = plan.recipe(i);
        let Some((b, swapped)) = recipe.b else {
            continue;
        };
        let (first, second) = if swapped {
            (b, recipe.a)
        } else {
            (recipe.a, b)
        };
        assert_eq!(
            (first.document, first.end()),
            (second.document, second.start)
        );
        turned += u64::from(swapped);
        pairs += 1;
    }
    // Exact in every 16 of a chunk; there are five chunks.
    assert!(
        pairs > 5_000 && turned.abs_diff(pairs - turned) <= 5 * 16,
        "{turned} of {pairs}"
    );
}
