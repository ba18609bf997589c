//! `verify` over real journals: of a run that went well, while it runs, damaged, and none at all.

#[path = "support/run.rs"]
mod run;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

fn run(words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    run::run(command.args(words).env_remove("COUNTERSIGN_CONFIG"))
}

fn verify(data: &Path, more: &[&str]) -> (i32, serde_json::Value) {
    let data = data.to_str().expect("it is text");
    let mut words = vec!["verify", "--json", data];
    words.extend(more);
    let (code, told, failed) = run(&words);
    let document = serde_json::from_str(&told);
    (code, document.unwrap_or_else(|_| panic!("{failed}")))
}

fn of<'a>(document: &'a serde_json::Value, invariant: &str) -> &'a serde_json::Value {
    let judged = document["invariants"].as_array().expect("a list");
    let found = judged
        .iter()
        .find(|judged| judged["invariant"] == invariant);
    found.expect("it is judged")
}

fn journals(home: &Path) -> std::path::PathBuf {
    let data = home.join("data");
    let place = data.to_str().expect("it is text");
    let (code, _, failed) = run(&["bench", "--duration", "1s", "--data", place]);
    assert_eq!(code, 0, "{failed}");
    data
}

#[test]
fn journals_of_a_good_run_prove_every_promise_they_can_and_a_damaged_one_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let data = journals(home.path());
    let (code, told) = verify(&data, &[]);
    assert_eq!((code, &told["verdict"]), (0, &"held".into()), "{told}");
    for invariant in [
        "I2", "I5", "I6", "I7", "I8", "I9", "I11", "I13", "I14", "I18", "I28",
    ] {
        assert_eq!(of(&told, invariant)["verdict"], "held", "{invariant}");
    }
    let figures = &told["figures"];
    assert!(figures["accepted"].as_u64() > Some(10), "{figures}");
    assert_eq!(figures["accepted"], figures["processed"]);

    let (code, part) = verify(&data, &["--since", "200", "--until", "300"]);
    assert_eq!(code, 0, "{part}");
    assert_eq!(of(&part, "I14")["verdict"], "undecided");

    let lost = home.path().join("sends");
    let line = "{\"id\":\"01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f\",\"lane\":1}\n";
    std::fs::write(&lost, line).expect("it is written");
    let (code, told) = verify(&data, &["--sends", lost.to_str().expect("it is text")]);
    let witness = &of(&told, "I1")["witness"]["messages"][0]["id"];
    assert_eq!(
        (code, witness),
        (11, &"01935d3c-7a2e-7c4b-9f10-5b0e8c1d2a3f".into())
    );

    let segment = data.join("centre/segment-00000000000000000001");
    let file = OpenOptions::new().read(true).write(true).open(segment);
    let file = file.expect("it opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 400)
        .expect("it is read");
    file.write_all_at(&[byte[0] ^ 4], 4096 + 400)
        .expect("it is written");
    let (code, told) = verify(&data, &[]);
    assert_eq!(
        (code, &told["figures"]["corrupt"]),
        (11, &1.into()),
        "{told}"
    );
    assert_eq!(of(&told, "I20")["verdict"], "violated");
}

#[test]
fn what_is_no_journal_of_that_kind_or_holds_nothing_of_the_period_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().expect("a directory");
    let data = journals(home.path());
    let at = |path: &str| data.join(path).display().to_string();
    let nothing = home.path().join("nothing").display().to_string();
    let wrong = format!("lyon={}", at("centre"));
    for (words, exit, code) in [
        (vec![nothing.as_str()], 8, "E-VERIFY-NOT-A-JOURNAL"),
        (vec![&at("keys")], 8, "E-VERIFY-NO-JOURNAL"),
        (vec![&wrong], 2, "E-VERIFY-RECORD"),
        (
            vec![&at("centre"), "--since", "2090-01-01T00:00:00Z"],
            8,
            "E-VERIFY-EMPTY",
        ),
        (vec![&at("centre"), "--since", "yesterday"], 2, "E-USAGE"),
        (vec![&at("centre"), "--since", "99999999"], 2, "E-USAGE"),
        (
            vec![&at("centre"), "--sends", &at("keys/jwks.json")],
            2,
            "E-VERIFY-LIST",
        ),
    ] {
        let words: Vec<_> = ["verify"].into_iter().chain(words).collect();
        let (found, _, told) = run(&words);
        assert_eq!(found, exit, "{words:?}: {told}");
        assert!(told.contains(code) && told.contains("do: "), "{told}");
    }
}
