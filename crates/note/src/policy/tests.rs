//! Policies: the specification's example, its rules one by one, and hostile files.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::key::SignatureType;
use crate::testing::{ORIGIN, cosigner, key};

fn log() -> String {
    key(ORIGIN, 1).verifier().to_string()
}

/// The vkey of a witness of its own: odd seeds have Ed25519 keys, even ones ML-DSA-44.
fn witness(seed: u8) -> String {
    let kind = if seed % 2 == 1 { SignatureType::Ed25519Cosignature } else { SignatureType::MlDsa44Cosignature };
    cosigner(&format!("witness.example/{seed}"), kind, seed).verifier().to_string()
}

/// The example of the specification.
fn example() -> String {
    let w = witness;
    format!(
        "log {}\n\nwitness X1 {}\nwitness X2 {}\nwitness X3 {}\ngroup X-witnesses 2 X1 X2 X3\n\n\
         witness Y1 {}\nwitness Y2 {}\nwitness Y3 {}\ngroup Y-witnesses any Y1 Y2 Y3\n\n\
         group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n",
        log(),
        w(2),
        w(3),
        w(4),
        w(5),
        w(6),
        w(7),
    )
}

/// One line, or part of one, for each of `items`.
fn lines<T>(items: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> String {
    items.into_iter().map(line).collect::<Vec<_>>().concat()
}

fn parse(policy: &str) -> Result<Policy, PolicyError> {
    Policy::parse(policy.as_bytes())
}

fn good(policy: &str) -> Policy {
    parse(policy).unwrap_or_else(|error| panic!("{error}\n{policy}"))
}

/// Line and problem of a policy that is refused.
fn refused(policy: &str) -> (usize, PolicyProblem) {
    let error = parse(policy).expect_err(policy);
    (error.line, error.problem)
}

/// Whether the witnesses with these names reach the quorum.
fn reaches(policy: &Policy, names: &[&str]) -> bool {
    let cosigned = |witness: usize| names.iter().any(|name| name.as_bytes() == policy.witnesses()[witness].name);
    policy.check_quorum(cosigned).is_ok()
}

#[test]
fn the_example_of_the_specification_asks_for_two_x_and_one_y() {
    let policy = good(&example());
    assert_eq!(policy.logs().len(), 1);
    let names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"];
    for subset in 0..1_u32 << names.len() {
        let chosen: Vec<_> = (0..names.len()).filter(|bit| subset >> bit & 1 == 1).map(|bit| names[bit]).collect();
        let of = |letter: &str| chosen.iter().filter(|name| name.starts_with(letter)).count();
        assert_eq!(reaches(&policy, &chosen), of("X") >= 2 && of("Y") >= 1, "{chosen:?}");
    }
}

#[test]
fn the_error_says_who_is_missing() {
    let policy = good(&example());
    let message = |names: &[usize]| policy.check_quorum(|witness| names.contains(&witness)).unwrap_err().to_string();
    insta::assert_snapshot!(message(&[0, 1]), @"the quorum `X-and-Y` needs 2 and has 1; not cosigned by `Y1`, `Y2`, `Y3`");
    insta::assert_snapshot!(message(&[0, 4]), @"the quorum `X-and-Y` needs 2 and has 1; not cosigned by `X2`, `X3`");

    let witnesses = lines(1..=12, |seed| format!("witness w{seed} {}\n", witness(seed)));
    let members = lines(1..=12, |seed| format!(" w{seed}"));
    let policy = good(&format!("{witnesses}group all-of-them all{members}\nquorum all-of-them\n"));
    let error = policy.check_quorum(|_| false).unwrap_err();
    insta::assert_snapshot!(error, @"the quorum `all-of-them` needs 12 and has 0; not cosigned by `w1`, `w2`, `w3`, `w4`, `w5`, `w6`, `w7`, `w8` and 4 more");

    let policy = good(&format!("witness only {}\nquorum only\n", witness(1)));
    let error = policy.check_quorum(|_| false).unwrap_err();
    insta::assert_snapshot!(error, @"the quorum `only` needs 1 and has 0; not cosigned by `only`");
}

#[test]
fn a_quorum_may_be_none_a_witness_or_a_group() {
    let none = good("quorum none\n");
    assert!(!none.needs_witnesses() && reaches(&none, &[]));
    assert!(none.logs().is_empty() && none.witnesses().is_empty());
    // A witness that no group and no quorum names is known, and has no vote.
    let (a, b) = (witness(1), witness(2));
    let single = good(&format!("witness a {a}\nwitness b {b}\nquorum a\n"));
    assert!(single.needs_witnesses() && reaches(&single, &["a"]) && !reaches(&single, &["b"]));
    let any = good(&format!("witness a {a}\nwitness b {b}\ngroup g any a b\nquorum g\n"));
    assert!(reaches(&any, &["b"]) && !reaches(&any, &[]));
    let all = good(&format!("witness a {a}\nwitness b {b}\ngroup g all a b\nquorum g\n"));
    assert!(reaches(&all, &["a", "b"]) && !reaches(&all, &["b"]));
}

/// One witness with keys of both kinds: an `any` group, so that it votes once.
#[test]
fn two_keys_of_one_witness_vote_once_in_an_any_group() {
    let w = witness;
    let policy = good(&format!(
        "witness w-ed {}\nwitness w-pq {}\ngroup w any w-ed w-pq\nwitness v {}\ngroup q 2 w v\nquorum q\n",
        w(1),
        w(2),
        w(3)
    ));
    assert!(!reaches(&policy, &["w-ed", "w-pq"]));
    assert!(reaches(&policy, &["w-pq", "v"]));
}

#[test]
fn spaces_tabs_comments_and_empty_lines_do_not_matter() {
    let spaced = example().replace(' ', " \t ").replace('\n', "\t\n  # a comment, \u{e9}\u{212a}\n\n   \n \t");
    let spaced = format!("#first\n{}\n", spaced.trim_end_matches([' ', '\t', '\n']));
    assert_eq!(good(&spaced), good(&example()));
}

#[test]
fn urls_are_kept_and_not_judged() {
    let policy = good(&format!(
        "log {} https://log.example/\u{e9}\nwitness w {} anything+at:all\nquorum w\n",
        log(),
        witness(1)
    ));
    assert_eq!(policy.logs()[0].url.as_deref(), Some("https://log.example/\u{e9}".as_bytes()));
    assert_eq!(policy.witnesses()[0].url.as_deref(), Some(&b"anything+at:all"[..]));
}

/// "The name 0x4B is different from the name 0xE2 0x84 0xAA", and names need not be UTF-8.
#[test]
fn names_are_opaque_bytes() {
    let policy = format!("witness K {}\nwitness \u{212a} {}\ngroup g 2 K \u{212a}\nquorum g\n", witness(1), witness(2));
    good(&policy);
    let mut bytes = format!("witness NAME {}\nquorum NAME\n", witness(1)).into_bytes();
    for at in (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == b"NAME").collect::<Vec<_>>() {
        bytes[at..at + 4].copy_from_slice(&[0xff, 0x80, b'#', 0xfe]);
    }
    let policy = Policy::parse(&bytes).expect("a policy");
    assert_eq!(policy.witnesses()[0].name, [0xff, 0x80, b'#', 0xfe]);
    let message = policy.check_quorum(|_| false).unwrap_err().to_string();
    assert!(message.contains('\u{fffd}'), "{message}");
    // Words are no names of their own: a group may be called like one.
    good(&format!("witness any {}\nwitness all {}\ngroup quorum any any all\nquorum quorum\n", witness(1), witness(2)));
}

#[test]
fn lines_of_the_wrong_shape_are_refused() {
    let (l, w) = (log(), witness(1));
    for line in [
        "log".into(),
        format!("log {l} url more"),
        format!("log {l} # comment"),
        format!("log {l} #comment"),
        "witness w".into(),
        format!("witness {w}"),
        format!("witness w {w} url more"),
        format!("witness w {w} #c"),
        "group g".into(),
        "group g any".into(),
        "quorum".into(),
        "quorum a b".into(),
        "quorum none none".into(),
        "Log x".into(),
        "logs".into(),
        "wit".into(),
        "\u{feff}quorum none".into(),
        "\u{a0}".into(),
        "//".into(),
    ] {
        let (number, problem) = refused(&format!("# comment\n{line}\nquorum none\n"));
        assert_eq!(number, 2, "{line}");
        assert!(matches!(problem, PolicyProblem::Syntax { .. }), "{line}: {problem}");
    }
}

#[test]
fn bytes_that_no_policy_holds_are_refused() {
    for byte in (0..b' ').filter(|byte| !b"\t\n".contains(byte)).chain([0x7f]) {
        for place in ["# X\nquorum none\n", "quorum nXone\n", "quorum none X\n", "X\nquorum none\n"] {
            let policy = place.replace('X', &char::from(byte).to_string());
            assert_eq!(refused(&policy), (1, PolicyProblem::Byte { byte }), "{policy:?}");
        }
    }
    assert_eq!(refused("quorum none\r\n"), (1, PolicyProblem::Byte { byte: b'\r' }));
}

#[test]
fn a_policy_that_lost_its_end_is_refused() {
    let example = example();
    for length in 0..example.len() {
        let error = Policy::parse(&example.as_bytes()[..length]).expect_err("cut off");
        let lines = example[..length].matches('\n').count();
        assert_eq!(error.line, lines + 1, "cut at {length}: {error}");
    }
    assert_eq!(refused(""), (1, PolicyProblem::NoQuorum));
    assert_eq!(refused("# x\n\n"), (3, PolicyProblem::NoQuorum));
    assert_eq!(refused("quorum none"), (1, PolicyProblem::CutOff));
}

#[test]
fn exactly_one_quorum() {
    assert_eq!(refused("quorum none\nquorum none\n"), (2, PolicyProblem::SecondQuorum));
    let policy = format!("witness w {}\nquorum w\nquorum none\n", witness(1));
    assert_eq!(refused(&policy), (3, PolicyProblem::SecondQuorum));
}

#[test]
fn names_are_declared_once_and_before_their_use() {
    let (a, b) = (witness(1), witness(2));
    let name = |name: &str| name.as_bytes().to_vec();
    let unknown = |n| PolicyProblem::UnknownName { name: name(n) };
    let taken = |n| PolicyProblem::NameTaken { name: name(n) };
    for (policy, line, problem) in [
        (format!("quorum a\nwitness a {a}\n"), 1, unknown("a")),
        (format!("witness a {a}\ngroup g any a b\nwitness b {b}\nquorum g\n"), 2, unknown("b")),
        (format!("witness a {a}\ngroup g any g\nquorum g\n"), 2, unknown("g")),
        (format!("witness a {a}\ngroup g any none\nquorum g\n"), 2, unknown("none")),
        (format!("witness a {a}\nquorum A\n"), 2, unknown("A")),
        (format!("witness a {a}\nwitness a {b}\nquorum a\n"), 2, taken("a")),
        (format!("witness a {a}\ngroup a any a\nquorum a\n"), 2, taken("a")),
        (format!("witness none {a}\nquorum none\n"), 1, taken("none")),
        (format!("witness a {a}\ngroup none any a\nquorum none\n"), 2, taken("none")),
    ] {
        assert_eq!(refused(&policy), (line, problem), "{policy}");
    }
}

#[test]
fn nobody_votes_twice() {
    let w = |n: u8| format!("witness {} {}\n", char::from(b'`' + n), witness(n));
    let twice = |n: &str| PolicyProblem::MemberTwice { name: n.as_bytes().to_vec() };
    for (policy, line, problem) in [
        (format!("{}group g 2 a a\nquorum g\n", w(1)), 2, twice("a")),
        (format!("{}{}group g any a\ngroup h any a b\nquorum h\n", w(1), w(2)), 4, twice("a")),
        (format!("{}group g any a\ngroup h any g\ngroup i any g h\nquorum i\n", w(1)), 4, twice("g")),
    ] {
        assert_eq!(refused(&policy), (line, problem), "{policy}");
    }
    // Being the quorum is no membership.
    good(&format!("{}group g any a\nquorum a\n", w(1)));
}

#[test]
fn thresholds_are_decimals_from_one_to_the_number_of_members() {
    let group = |k: &str| format!("witness a {}\nwitness b {}\ngroup g {k} a b\nquorum g\n", witness(1), witness(2));
    for k in ["1", "2", "any", "all"] {
        good(&group(k));
    }
    for k in ["0", "3", "01", "+1", "-1", "1.0", "0x1", "Any", "ALL", "", "\u{661}", "18446744073709551617"] {
        let (line, problem) = refused(&group(k));
        // Without `k`, `a` stands in its place and one member is left.
        let members = if k.is_empty() { 1 } else { 2 };
        assert_eq!((line, problem), (3, PolicyProblem::Threshold { members }), "{k:?}");
    }
}

#[test]
fn one_public_key_is_one_log_or_witness_whatever_its_name() {
    let again = |kind| cosigner("other.example", kind, 1).verifier().to_string();
    let same = again(SignatureType::Ed25519Cosignature);
    let policy = format!("witness a {}\n\nwitness b {same}\nquorum none\n", witness(1));
    assert_eq!(refused(&policy), (3, PolicyProblem::DuplicateKey { first: 1 }));
    let policy = format!("log {}\nlog {}\nquorum none\n", log(), key("other.example", 1).verifier());
    assert_eq!(refused(&policy), (2, PolicyProblem::DuplicateKey { first: 1 }));
    // The same seed, but another algorithm: another key.
    let policy = format!("witness a {same}\nwitness b {}\nquorum none\n", again(SignatureType::MlDsa44Cosignature));
    good(&policy);
}

#[test]
fn keys_must_be_of_a_type_that_fits_their_line() {
    let (ed25519, ml_dsa) = (witness(1), witness(2));
    good(&format!("log {}\nlog {ml_dsa}\nwitness a {ed25519}\nquorum none\n", log()));
    for policy in [
        format!("log {ed25519}\nquorum none\n"),
        format!("witness w {}\nquorum none\n", log()),
        "log x\nquorum none\n".to_owned(),
        format!("log {}\nquorum none\n", log().replace('+', "+0")),
        format!("log {}x\nquorum none\n", log()),
        format!("witness w {}\nquorum none\n", ml_dsa.replace("example", "elpmaxe")),
    ] {
        let (line, problem) = refused(&policy);
        assert!(line == 1 && matches!(problem, PolicyProblem::Key(_)), "{policy}: {problem}");
    }
    assert!(Policy::of_logs([ed25519.parse().expect("a vkey")]).is_err());
}

#[test]
fn a_policy_can_be_narrowed_to_one_of_its_logs() {
    let (one, other) = (key(ORIGIN, 1).verifier().clone(), key("other.example", 2).verifier().clone());
    let policy = good(&format!("log {one} url\nlog {other}\nwitness w {}\nquorum w\n", witness(1)));
    let narrowed = policy.clone().for_logs(std::slice::from_ref(&other)).expect("one of them");
    assert_eq!(narrowed.logs().iter().map(|log| &log.key).collect::<Vec<_>>(), [&other]);
    assert!(narrowed.needs_witnesses() && !policy.without_witnesses().needs_witnesses());
    let stranger = key(ORIGIN, 9).verifier().clone();
    assert_eq!(policy.for_logs(&[other, stranger.clone()]), Err(KeyError::NotInPolicy));
    // Without logs, the policy leaves the choice to its user.
    let open = good(&format!("witness w {}\nquorum w\n", witness(1)));
    assert_eq!(open.for_logs(std::slice::from_ref(&stranger)).expect("any log").logs()[0].key, stranger);
}

#[test]
fn limits_hold_exactly_and_are_at_least_those_of_the_specification() {
    assert!(LOGS_MAX.min(WITNESSES_MAX).min(GROUPS_MAX) >= 32);
    let ed25519 = |number: usize| {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_be_bytes());
        let kind = SignatureType::Ed25519Cosignature;
        let key = crate::PrivateKey::from_seed(&format!("w{number}"), kind, &seed).expect("a name");
        key.verifier().clone()
    };
    let witnesses = |count| lines(0..count, |n| format!("witness w{n} {}\n", ed25519(n)));
    let logs = |count| -> String {
        let vkey = |n| VerifierKey::from_public_key("l", SignatureType::Ed25519, &ed25519(n).public_key());
        lines(0..count, |n| format!("log {}\n", vkey(n).expect("a key")))
    };
    // The deepest nesting that there can be.
    let groups = |count| {
        let member = |n: usize| n.checked_sub(1).map_or("w0".to_owned(), |below| format!("g{below}"));
        lines(0..count, |n| format!("group g{n} all {}\n", member(n)))
    };
    let quorum = format!("quorum g{}\n", GROUPS_MAX - 1);
    let policy = good(&[logs(LOGS_MAX), witnesses(WITNESSES_MAX), groups(GROUPS_MAX), quorum].concat());
    assert!(reaches(&policy, &["w0"]) && !reaches(&policy, &["w1"]));

    let too_many = |max| PolicyProblem::TooMany { max };
    assert_eq!(refused(&logs(LOGS_MAX + 1)), (LOGS_MAX + 1, too_many(LOGS_MAX)));
    assert_eq!(refused(&witnesses(WITNESSES_MAX + 1)), (WITNESSES_MAX + 1, too_many(WITNESSES_MAX)));
    let policy = format!("{}{}", witnesses(1), groups(GROUPS_MAX + 1));
    assert_eq!(refused(&policy), (GROUPS_MAX + 2, too_many(GROUPS_MAX)));

    let padded = |length: usize| format!("{}\nquorum none\n", "#".repeat(length - "\nquorum none\n".len()));
    good(&padded(POLICY_BYTES_MAX));
    assert_eq!(refused(&padded(POLICY_BYTES_MAX + 1)), (1, PolicyProblem::TooLong));
}

proptest! {
    /// Against a count by hand: a group of all witnesses with any threshold.
    #[test]
    fn a_threshold_counts_members(k in 1_usize..=5, cosigned in prop::collection::btree_set(0_usize..5, 0..=5)) {
        let witnesses = lines(1..=5, |n| format!("witness w{n} {}\n", witness(2 * n - 1)));
        let policy = good(&format!("{witnesses}group g {k} w1 w2 w3 w4 w5\nquorum g\n"));
        let cosigned: BTreeSet<usize> = cosigned;
        prop_assert_eq!(policy.check_quorum(|witness| cosigned.contains(&witness)).is_ok(), cosigned.len() >= k);
    }

    #[test]
    fn arbitrary_files_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lines in "((log|witness|group|quorum|#|any|all|none|[ab1-3]| |\t){0,6}\n){0,6}",
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut changed = example().into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        for policy in [&bytes[..], lines.as_bytes(), &changed] {
            if let Ok(policy) = Policy::parse(policy) {
                let _ = policy.check_quorum(|_| false);
                prop_assert!(policy.check_quorum(|_| true).is_ok(), "all together reach every quorum");
            }
        }
    }
}
