use super::*;

fn world(variables: &[(&str, &str)]) -> Result<World> {
    World::from_variables(&|name| {
        let found = variables.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

/// Rank, world size, local rank, address.
fn seen(variables: &[(&str, &str)]) -> (usize, usize, usize, String) {
    let w = world(variables).unwrap();
    let address = w.address.map_or_else(String::new, |a| a.to_string());
    (w.rank, w.world_size, w.local_rank, address)
}

fn why(variables: &[(&str, &str)]) -> String {
    world(variables).unwrap_err().to_string()
}

/// `base`, with `more` in the place of variables of the same name.
fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    more.iter().chain(base).copied().collect()
}

const TORCHRUN: [(&str, &str); 6] = [
    ("RANK", "5"),
    ("WORLD_SIZE", "8"),
    ("LOCAL_RANK", "1"),
    ("MASTER_ADDR", "node1"),
    ("MASTER_PORT", "29400"),
    ("TORCHELASTIC_RUN_ID", "none"),
];

const SRUN: [(&str, &str); 8] = [
    ("SLURM_PROCID", "3"),
    ("SLURM_STEP_NUM_TASKS", "6"),
    ("SLURM_NTASKS", "8"),
    ("SLURM_LOCALID", "1"),
    ("SLURM_JOB_ID", "123456"),
    ("SLURM_STEP_ID", "2"),
    ("SLURM_STEP_NODELIST", "node[03-04]"),
    ("SLURM_JOB_NODELIST", "node[01-04]"),
];

const MPIRUN: [(&str, &str); 4] = [
    ("OMPI_COMM_WORLD_RANK", "2"),
    ("OMPI_COMM_WORLD_SIZE", "4"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "2"),
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
];

#[test]
fn a_process_on_its_own() {
    let batch_script = [
        ("SLURM_PROCID", "0"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_NTASKS", "4"),
        ("SLURM_JOB_ID", "7"),
        ("SLURM_JOB_NODELIST", "node1"),
    ];
    // `salloc -n 4` with an interactive step.
    let interactive = with(
        &batch_script,
        &[("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_STEP_ID", "0")],
    );
    let srun_of_one = with(&interactive, &[("SLURM_NTASKS", "1")]);
    let shell = [("SLURM_NTASKS", "4"), ("SLURM_JOB_ID", "7")];
    let cases: [&[(&str, &str)]; 8] = [
        &[],
        &batch_script,
        &interactive,
        &srun_of_one,
        &shell,
        &[("WORLD_SIZE", "1")],
        &[("RANK", "0"), ("WORLD_SIZE", "1")],
        &[("RANK", " "), ("WORLD_SIZE", "")],
    ];
    for variables in cases {
        assert_eq!(world(variables).unwrap(), World::alone(), "{variables:?}");
    }
}

#[test]
fn torchrun() {
    assert_eq!(seen(&TORCHRUN), (5, 8, 1, "node1:29400".into()));
    // Within a step of one task a node, whose numbers are those of nodes.
    let within = with(
        &TORCHRUN,
        &[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2")],
    );
    assert_eq!(seen(&within), (5, 8, 1, "node1:29400".into()));
    let agent = with(&TORCHRUN, &[("TORCHELASTIC_USE_AGENT_STORE", "True")]);
    assert_eq!(seen(&agent).3, "node1:29401", "the agent listens at 29400");
    let last = with(&agent, &[("MASTER_PORT", "65535")]);
    assert_eq!(seen(&last).3, "node1:65534");
    let none = with(&TORCHRUN, &[("TORCHELASTIC_USE_AGENT_STORE", "False")]);
    assert_eq!(seen(&none).3, "node1:29400");
    for host in ["::1", "[::1]"] {
        assert_eq!(
            seen(&with(&TORCHRUN, &[("MASTER_ADDR", host)])).3,
            "[::1]:29400"
        );
    }
    let again = with(&TORCHRUN, &[("TORCHELASTIC_RESTART_COUNT", "1")]);
    assert_ne!(world(&TORCHRUN).unwrap().job, world(&again).unwrap().job);
    assert!(why(&with(&TORCHRUN, &[("LOCAL_RANK", "")])).starts_with("LOCAL_RANK is not set"));
    assert!(why(&with(&TORCHRUN, &[("MASTER_PORT", "")])).starts_with("MASTER_PORT is not set"));
}

#[test]
fn srun() {
    let port = 10_000 + (123_456 + 2) % 20_000;
    assert_eq!(seen(&SRUN), (3, 6, 1, format!("node03:{port}")));
    let given = with(&SRUN, &[("MASTER_ADDR", "ib1"), ("MASTER_PORT", "99")]);
    assert_eq!(seen(&given).3, "ib1:99");
    let old = with(
        &SRUN,
        &[("SLURM_STEP_NUM_TASKS", ""), ("SLURM_STEP_NODELIST", "")],
    );
    assert_eq!(seen(&old), (3, 8, 1, format!("node01:{port}")));
    // As batch scripts for PyTorch set it.
    assert_eq!(seen(&with(&SRUN, &[("WORLD_SIZE", "6")])).1, 6);
    let other = why(&with(&SRUN, &[("WORLD_SIZE", "8")]));
    assert!(
        other.starts_with("WORLD_SIZE is 8, but SLURM_STEP_NUM_TASKS is 6"),
        "{other}"
    );
    let other = why(&with(&SRUN, &[("RANK", "0"), ("WORLD_SIZE", "6")]));
    assert!(
        other.starts_with("RANK is 0, but SLURM_PROCID is 3"),
        "{other}"
    );
    let lost = why(&[("SLURM_PROCID", "3")]);
    assert!(
        lost.contains("SLURM_PROCID is 3") && lost.contains("SLURM_NTASKS"),
        "{lost}"
    );
    assert_eq!(world(&SRUN).unwrap().job, "slurm 123456 2");
    let pmi2 = with(&SRUN, &[("PMI_RANK", "3"), ("PMI_SIZE", "6")]);
    assert_eq!(world(&pmi2).unwrap(), world(&SRUN).unwrap());
}

#[test]
fn mpirun() {
    assert_eq!(seen(&MPIRUN), (2, 4, 2, "127.0.0.1:29500".into()));
    // Daemons of mpirun are started by srun, and their variables are inherited.
    let within = with(&SRUN, &MPIRUN);
    assert_eq!(seen(&within).0, 2);
    let several = with(&MPIRUN, &[("OMPI_COMM_WORLD_LOCAL_SIZE", "2")]);
    assert!(why(&several).starts_with("MASTER_ADDR is not set"));
    let slurm = with(&several, &SRUN);
    // On the first node mpirun starts processes by itself, on the others by srun: all must say the same.
    let first = slurm
        .iter()
        .filter(|(name, _)| !name.starts_with("SLURM_STEP") && *name != "SLURM_PROCID");
    let first: Vec<_> = first.copied().collect();
    assert_eq!(world(&slurm).unwrap(), world(&first).unwrap());
    assert_eq!(
        seen(&slurm).3,
        format!("node01:{}", 10_000 + 123_456 % 20_000)
    );
    let hydra = [
        ("PMI_RANK", "1"),
        ("PMI_SIZE", "2"),
        ("MPI_LOCALRANKID", "1"),
        ("MPI_LOCALNRANKS", "2"),
    ];
    assert_eq!(seen(&hydra), (1, 2, 1, "127.0.0.1:29500".into()));
    assert!(why(&hydra[..1]).starts_with("PMI_RANK is 1, but PMI_SIZE is not set"));
    assert!(why(&hydra[1..]).starts_with("PMI_SIZE is 2, but PMI_RANK is not set"));
}

#[test]
fn nonsense_is_named() {
    let cases = [
        ("RANK", "five", "RANK is \"five\", expected a whole number"),
        ("RANK", "-1", "RANK is \"-1\", expected a whole number"),
        ("RANK", "8", "RANK is 8, must be under WORLD_SIZE, 8"),
        ("WORLD_SIZE", "0", "RANK is 5, must be under WORLD_SIZE, 0"),
        ("WORLD_SIZE", "4.0", "WORLD_SIZE is \"4.0\""),
        ("WORLD_SIZE", "", "RANK is 5, but WORLD_SIZE is not set"),
        ("RANK", "", "WORLD_SIZE is 8, but RANK is not set"),
        ("LOCAL_RANK", "8", "LOCAL_RANK is 8, must be under"),
        (
            "MASTER_PORT",
            "0",
            "MASTER_PORT is \"0\", expected a number from 1",
        ),
        ("MASTER_PORT", "70000", "MASTER_PORT is \"70000\""),
        ("MASTER_ADDR", "", "MASTER_ADDR is not set"),
    ];
    for (variable, value, expected) in cases {
        let why = why(&with(&TORCHRUN, &[(variable, value)]));
        assert!(why.starts_with(expected), "{why}");
    }
}

#[test]
fn lists_of_hosts() {
    let cases = [
        ("node1", "node1"),
        ("node[03-05,9]", "node03"),
        ("node[9,03-05],login1", "node9"),
        ("login1,node[1-2]", "login1"),
        (
            "rack[2-3]node[07-08]-ib.example.org",
            "rack2node07-ib.example.org",
        ),
        ("gpu-a[1]", "gpu-a1"),
    ];
    for (list, host) in cases {
        assert_eq!(first_host(list).as_deref(), Ok(host));
    }
    for list in [
        "",
        ",",
        "node[",
        "node]1",
        "node[]",
        "node[x-y]",
        "node[-3]",
        "a b",
        "[]",
    ] {
        assert!(first_host(list).is_err(), "{list}");
    }
    let broken = why(&with(&SRUN, &[("SLURM_STEP_NODELIST", "node[")]));
    assert!(
        broken.starts_with("SLURM_STEP_NODELIST is \"node[\", expected"),
        "{broken}"
    );
}
