//! Evidence: what a liar cannot deny, and what nobody can pin on the honest.

use std::sync::LazyLock;

use logwood_merkle::{LeafIndex, TreeHead, TreeSize};
use proptest::prelude::*;

use super::*;
use crate::checkpoint::{Checkpoint, sign_checkpoint};
use crate::key::{SignatureType, VerifierKey};
use crate::note::{SignedNote, assemble_note};
use crate::private_key::CosigningKey;
use crate::receipt::Receipt;
use crate::seal::Seal;
use crate::testing::{ORIGIN, cosigner, key, leaves, mth, path, proof};

const NOW: u64 = 1_774_353_600;

fn log_key() -> VerifierKey {
    key(ORIGIN, 1).verifier().clone()
}

fn witness() -> CosigningKey {
    cosigner("witness.example", SignatureType::Ed25519Cosignature, 2)
}

/// The leaves of the honest history, or of one that differs at index 2 and above.
fn history(size: u64, is_honest: bool) -> Vec<Hash> {
    let mut leaves = leaves(size);
    for leaf in leaves.iter_mut().skip(2).filter(|_| !is_honest) {
        *leaf = Hash::leaf(&[&b"forged "[..], leaf.as_bytes()].concat());
    }
    leaves
}

fn head_of(leaves: &[Hash]) -> TreeHead {
    TreeHead { size: TreeSize(leaves.len() as u64), root: mth(leaves) }
}

fn checkpoint(size: u64, is_honest: bool) -> Vec<u8> {
    sign_checkpoint(&key(ORIGIN, 1), ORIGIN, &head_of(&history(size, is_honest)))
}

/// `checkpoint` with the witness's lines at the `times` besides.
fn cosigned(size: u64, times: &[u64]) -> Vec<u8> {
    let bytes = checkpoint(size, true);
    let note = SignedNote::parse(&bytes).expect("a note");
    let mut lines = note.signatures().to_vec();
    lines.extend(times.iter().map(|&seconds| witness().cosign(note.text(), seconds).expect("a checkpoint")));
    assemble_note(note.text(), &lines).expect("a note")
}

fn receipt(index: usize, size: u64, is_honest: bool) -> (Vec<u8>, Hash) {
    let leaves = history(size, is_honest);
    let receipt = Receipt {
        extra: None,
        index: LeafIndex(index as u64),
        proof: path(index, &leaves),
        checkpoint: checkpoint(size, is_honest),
    };
    (receipt.to_bytes(), leaves[index])
}

fn seal(size: u64) -> Vec<u8> {
    Seal { origin: ORIGIN.into(), head: head_of(&leaves(size)), seconds: NOW }.sign(&key(ORIGIN, 1))
}

fn split_view() -> Evidence {
    Evidence::SplitView { first: checkpoint(7, true), second: checkpoint(7, false) }
}

/// From the honest tree of `old` to the forged one of `new`.
fn rewrite(old: usize, new: u64) -> Evidence {
    let forged = history(new, false);
    let root = mth(&forged[..old]);
    let old_checkpoint = checkpoint(old as u64, true);
    Evidence::Rewrite { old: old_checkpoint, new: checkpoint(new, false), root, proof: proof(old, &forged) }
}

fn swap() -> Evidence {
    let ((first, first_leaf), (second, second_leaf)) = (receipt(3, 5, true), receipt(3, 9, false));
    Evidence::Swap { first, first_leaf, second, second_leaf }
}

fn rollback() -> Evidence {
    Evidence::Rollback { earlier: cosigned(9, &[NOW]), later: cosigned(5, &[NOW + 1]) }
}

fn broken_seal() -> Evidence {
    Evidence::BrokenSeal { seal: seal(7), head: checkpoint(8, true) }
}

fn all() -> [Evidence; 5] {
    [split_view(), rewrite(5, 9), swap(), rollback(), broken_seal()]
}

fn judge(evidence: &Evidence) -> Result<Proved, NotProved> {
    evidence.judge(&[log_key(), witness().verifier().clone()], None)
}

fn consistent(evidence: &Evidence) -> bool {
    matches!(judge(evidence), Err(NotProved::Consistent { .. }))
}

#[test]
fn each_kind_is_proved_in_a_sentence() {
    let sentence = |evidence| judge(&evidence).expect("proved").to_string();
    insta::assert_snapshot!(sentence(split_view()), @"the log log.example/logs/audit signed two different histories of the same 7 entries, so that it told different people different things.");
    insta::assert_snapshot!(sentence(rewrite(5, 9)), @"the log log.example/logs/audit signed a history of 5 entries, and also one of 9 entries that does not begin with it: what was logged has been changed.");
    insta::assert_snapshot!(sentence(swap()), @"the log log.example/logs/audit signed two histories, of 5 and of 9 entries, that have different entries in place 3.");
    insta::assert_snapshot!(sentence(rollback()), @"the cosigner witness.example stated at POSIX second 1774353601 that the longest history of the log log.example/logs/audit that it had seen had 5 entries, after it had stated at second 1774353600 that it had seen 9 entries.");
    insta::assert_snapshot!(sentence(broken_seal()), @"the log log.example/logs/audit signed that it would never have more than 7 entries, and also signed a history of 8.");
}

#[test]
fn evidence_bytes() {
    let (seal, head) = (b"seal\n".to_vec(), b"no newline".to_vec());
    let text = |evidence: Evidence| String::from_utf8(evidence.to_bytes()).expect("text");
    insta::assert_snapshot!(text(Evidence::BrokenSeal { seal, head }), @r"
    logwood-evidence/v1
    kind e
    part seal 5
    seal
    part head 10
    no newline
    ");
    let (old, new, root) = (Vec::new(), b"new\n".to_vec(), Hash::empty_root());
    insta::assert_snapshot!(text(Evidence::Rewrite { old, new, root, proof: vec![root; 2] }), @r"
    logwood-evidence/v1
    kind b
    part old 0
    part new 4
    new
    part root 45
    47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
    part proof 90
    47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
    47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
    ");
}

#[test]
fn every_rewrite_of_small_trees_is_proved() {
    for new in 4..=17 {
        // The first two entries are the same in both histories.
        for old in 3..usize::try_from(new).expect("small") {
            judge(&rewrite(old, new)).unwrap_or_else(|error| panic!("{old} to {new}: {error}"));
        }
        assert!(consistent(&rewrite(2, new)), "nothing below entry 2 was rewritten");
    }
}

#[test]
fn either_key_of_a_log_is_enough_and_each_head_may_have_another() {
    let own = cosigner(ORIGIN, SignatureType::MlDsa44Cosignature, 5);
    let bytes = checkpoint(7, false);
    let note = SignedNote::parse(&bytes).expect("a note");
    let second = assemble_note(note.text(), &[own.cosign(note.text(), 0).expect("a checkpoint")]).expect("a note");
    let evidence = Evidence::SplitView { first: checkpoint(7, true), second };
    evidence.judge(&[log_key(), own.verifier().clone()], None).expect("proved");
    assert!(matches!(judge(&evidence), Err(NotProved::Checkpoint { part: "second", .. })));
}

#[test]
fn a_log_takes_itself_back_as_a_witness_does() {
    let own = cosigner(ORIGIN, SignatureType::MlDsa44Cosignature, 5);
    let signed = |size, seconds| {
        let bytes = checkpoint(size, true);
        let note = SignedNote::parse(&bytes).expect("a note");
        assemble_note(note.text(), &[own.cosign(note.text(), seconds).expect("a checkpoint")]).expect("a note")
    };
    let keys = [own.verifier().clone()];
    let rollback = |first, second| Evidence::Rollback { earlier: signed(9, first), later: signed(5, second) };
    rollback(NOW, NOW + 1).judge(&keys, None).expect("proved");
    // Without a claim to be the newest there is nothing to take back.
    for (first, second) in [(0, NOW), (NOW, 0), (0, 0), (NOW, NOW), (NOW + 1, NOW)] {
        let refused = rollback(first, second).judge(&keys, None);
        assert!(matches!(refused, Err(NotProved::Consistent { .. })), "{first} {second}");
    }
}

#[test]
fn of_several_lines_the_pair_that_lies_furthest_apart_decides() {
    let judge = |first: &[u64], second: &[u64]| {
        judge(&Evidence::Rollback { earlier: cosigned(9, first), later: cosigned(5, second) }).is_ok()
    };
    assert!(judge(&[NOW, NOW + 9], &[NOW + 1]));
    assert!(judge(&[NOW + 9, NOW], &[1, NOW + 1]));
    assert!(!judge(&[NOW + 9, NOW + 8], &[NOW + 7, NOW + 8]));
}

#[test]
fn what_does_not_contradict_proves_nothing() {
    let (size_5, size_7) = (checkpoint(5, true), checkpoint(7, true));
    let honest = leaves(7);
    let split = |first: &[u8], second: &[u8]| Evidence::SplitView { first: first.to_vec(), second: second.to_vec() };
    assert!(consistent(&split(&size_7, &size_7)));
    assert!(consistent(&split(&size_5, &size_7)));
    assert!(consistent(&split(&cosigned(7, &[NOW]), &size_7)));

    let rewrite = |old: &[u8], new: &[u8], root, proof| {
        let (old, new) = (old.to_vec(), new.to_vec());
        Evidence::Rewrite { old, new, root, proof }
    };
    assert!(consistent(&rewrite(&size_5, &size_7, mth(&honest[..5]), proof(5, &honest))));
    assert!(consistent(&rewrite(&size_7, &size_5, mth(&honest[..5]), proof(5, &honest))));
    assert!(consistent(&rewrite(&size_7, &size_7, mth(&honest), Vec::new())));
    // Two honest heads with a corrupted proof, or with a root that is not there.
    let mut corrupted = proof(5, &honest);
    corrupted[1] = Hash::empty_root();
    for (root, proof) in
        [(mth(&honest[..5]), corrupted), (mth(&honest[..5]), Vec::new()), (Hash::empty_root(), proof(5, &honest))]
    {
        assert!(matches!(judge(&rewrite(&size_5, &size_7, root, proof)), Err(NotProved::Proof(_))));
    }
    // Every tree extends the empty one.
    let empty = checkpoint(0, true);
    assert!(judge(&rewrite(&empty, &size_7, mth(&honest), proof(5, &honest))).is_err());

    let swap = |(first, first_leaf), (second, second_leaf)| Evidence::Swap { first, first_leaf, second, second_leaf };
    assert!(consistent(&swap(receipt(3, 5, true), receipt(3, 9, true))));
    assert!(consistent(&swap(receipt(3, 5, true), receipt(4, 9, true))));
    assert!(consistent(&swap(receipt(1, 5, true), receipt(1, 9, false))), "entry 1 is the same in both");
    let (other, _) = receipt(3, 9, true);
    let refused = judge(&swap(receipt(3, 5, true), (other, Hash::empty_root())));
    assert!(matches!(refused, Err(NotProved::Receipt { part: "second", .. })));

    let broken = |sealed, size| Evidence::BrokenSeal { seal: seal(sealed), head: checkpoint(size, true) };
    assert!(consistent(&broken(7, 7)) && consistent(&broken(7, 6)));
}

#[test]
fn only_the_accused_can_be_convicted() {
    let (stranger, stranger_witness) =
        (key("other.example", 8).verifier().clone(), cosigner("v.example", SignatureType::Ed25519Cosignature, 7));
    for evidence in all() {
        assert!(evidence.judge(&[stranger.clone(), stranger_witness.verifier().clone()], None).is_err());
        assert!(matches!(evidence.judge(&[], None), Err(NotProved::NoKey { .. })));
        // A witness's key says nothing about a log, nor a log's about a witness.
        let is_rollback = evidence.kind() == 'd';
        assert_eq!(evidence.judge(&[log_key()], None).is_ok(), !is_rollback);
        assert_eq!(evidence.judge(&[witness().verifier().clone()], None).is_ok(), is_rollback);
    }
}

#[test]
fn heads_of_two_logs_contradict_nothing() {
    let (one, other) = (key(ORIGIN, 1), key("other.example", 3));
    let first = checkpoint(7, true);
    let second = sign_checkpoint(&other, "other.example", &head_of(&history(7, false)));
    let evidence = Evidence::SplitView { first, second };
    let keys = [one.verifier().clone(), other.verifier().clone()];
    assert_eq!(evidence.judge(&keys, None), Err(NotProved::Origins));

    // One key under two origins: an odd log, but not a lying one.
    let odd = sign_checkpoint(&one, "other.example", &head_of(&history(7, false)));
    let evidence = Evidence::SplitView { first: checkpoint(7, true), second: odd };
    assert!(evidence.judge(&keys[..1], None).is_err());
    assert!(evidence.judge(&keys[..1], Some("other.example")).is_err());

    // A witness sees one log after the other.
    let note = SignedNote::parse(&sign_checkpoint(&other, "other.example", &head_of(&leaves(5)))).expect("a note");
    let line = witness().cosign(note.text(), NOW + 1).expect("a checkpoint");
    let later = assemble_note(note.text(), &[line]).expect("a note");
    let evidence = Evidence::Rollback { earlier: cosigned(9, &[NOW]), later };
    assert_eq!(judge(&evidence), Err(NotProved::Origins));
}

#[test]
fn an_origin_that_differs_from_the_key_s_name_is_named_by_the_judge() {
    let odd = |is_honest| sign_checkpoint(&key("key.example", 1), ORIGIN, &head_of(&history(7, is_honest)));
    let evidence = Evidence::SplitView { first: odd(true), second: odd(false) };
    let keys = [key("key.example", 1).verifier().clone()];
    assert!(evidence.judge(&keys, None).is_err());
    assert_eq!(evidence.judge(&keys, Some(ORIGIN)).expect("proved").origin, ORIGIN);
}

#[test]
fn malformed_files_are_refused() {
    let good = String::from_utf8(split_view().to_bytes()).expect("text");
    let part = |name| EvidenceError::Part { name };
    for (file, expected) in [
        (String::new(), EvidenceError::Header),
        (good.replacen("/v1", "/v2", 1), EvidenceError::Header),
        (good.replacen("kind a", "kind f", 1), EvidenceError::Kind),
        (good.replacen("kind a", "kind A", 1), EvidenceError::Kind),
        (good.replacen("kind a", "kind", 1), EvidenceError::Kind),
        (good.replacen("kind a", "kind b", 1), part("old")),
        (good.replacen("part first ", "part first 0", 1), part("first")),
        (good.replacen("part first", "part  first", 1), part("first")),
        (good.replacen("part first", "part second", 1), part("first")),
        (good.replacen("part first ", "part first 18446744073709551615", 1), part("first")),
        (good[..good.len() - 1].to_owned(), part("second")),
        (format!("{good}\n"), EvidenceError::Trailing),
    ] {
        assert_eq!(Evidence::parse(file.as_bytes()), Err(expected), "{file:?}");
    }
    let rewrite = String::from_utf8(rewrite(5, 9).to_bytes()).expect("text");
    for (from, to) in [("root 45\n", "root 44\n"), ("root 45\n", "root 90\n")] {
        assert!(Evidence::parse(rewrite.replacen(from, to, 1).as_bytes()).is_err());
    }
    let huge = vec![b'a'; EVIDENCE_BYTES_MAX + 1];
    assert_eq!(Evidence::parse(&huge), Err(EvidenceError::TooLong { actual: huge.len() }));
    let with_hashes = |count| {
        let Evidence::Rewrite { old, new, root, .. } = super::tests::rewrite(5, 9) else { unreachable!("kind b") };
        Evidence::parse(&Evidence::Rewrite { old, new, root, proof: vec![root; count] }.to_bytes())
    };
    with_hashes(PROOF_HASHES_MAX).expect("the limit is allowed");
    assert_eq!(with_hashes(PROOF_HASHES_MAX + 1), Err(part("proof")));
}

#[test]
fn the_largest_receipts_fit() {
    let receipt = vec![b'a'; RECEIPT_BYTES_MAX];
    let leaf = Hash::empty_root();
    let evidence = Evidence::Swap { first: receipt.clone(), first_leaf: leaf, second: receipt, second_leaf: leaf };
    assert_eq!(Evidence::parse(&evidence.to_bytes()), Ok(evidence));
}

/// Everything that an honest log and an honest witness ever let out, for a framer to put together.
struct Honest {
    checkpoints: Vec<Vec<u8>>,
    receipts: Vec<(Vec<u8>, Hash)>,
    hashes: Vec<Hash>,
    proofs: Vec<Vec<Hash>>,
    seal: Vec<u8>,
}

const HONEST_SIZE: u64 = 9;

static HONEST: LazyLock<Honest> = LazyLock::new(honest);

fn honest() -> Honest {
    let all = leaves(HONEST_SIZE);
    let size = all.len();
    // The witness saw the log grow, one size a second, and renews its last statement twice.
    let mut checkpoints: Vec<_> = (0..=HONEST_SIZE).map(|size| cosigned(size, &[NOW + size])).collect();
    checkpoints.push(cosigned(HONEST_SIZE, &[NOW + 50, NOW + 60]));
    let receipts = (1..=size).flat_map(|size| (0..size).map(move |index| receipt(index, size as u64, true)));
    let proofs = (1..=size).flat_map(|n| (1..=n).map(move |m| (m, n))).map(|(m, n)| proof(m, &all[..n]));
    let mut hashes = all.clone();
    hashes.extend((0..=size).map(|size| mth(&all[..size])));
    hashes.extend(proofs.clone().flatten());
    Honest { checkpoints, receipts: receipts.collect(), hashes, proofs: proofs.collect(), seal: seal(HONEST_SIZE) }
}

/// How a framer may spoil bytes: at a place, to a value.
fn spoil(bytes: &mut [u8], spoils: &[(prop::sample::Index, u8)]) {
    if bytes.is_empty() {
        return;
    }
    for (at, value) in spoils {
        bytes[at.index(bytes.len())] = *value;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Nobody can frame an honest log or witness: not by recombining what they signed, nor by changing some of it.
    #[test]
    fn the_honest_are_never_convicted(
        kind in 0..5_u8,
        picks in prop::array::uniform6(any::<prop::sample::Index>()),
        spoils in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
        spoiled_hash in prop::option::of(any::<[u8; 32]>()),
    ) {
        let honest = &*HONEST;
        let [a, b, c, d, e, f] = &picks;
        let checkpoint = |index: &prop::sample::Index| index.get(&honest.checkpoints).clone();
        let hash = |index: &prop::sample::Index| spoiled_hash.map_or(*index.get(&honest.hashes), Hash::from_bytes);
        let (mut first, mut second) = (checkpoint(a), checkpoint(b));
        if kind == 2 {
            (first, second) = (c.get(&honest.receipts).0.clone(), d.get(&honest.receipts).0.clone());
        }
        spoil(&mut first, &spoils);
        spoil(&mut second, &spoils[spoils.len() / 2..]);
        let evidence = match kind {
            0 => Evidence::SplitView { first, second },
            1 => Evidence::Rewrite { old: first, new: second, root: hash(c), proof: d.get(&honest.proofs).clone() },
            2 => {
                let (first_leaf, second_leaf) = (c.get(&honest.receipts).1, if e.index(2) == 0 { hash(f) } else { d.get(&honest.receipts).1 });
                Evidence::Swap { first, first_leaf, second, second_leaf }
            }
            3 => Evidence::Rollback { earlier: first, later: second },
            _ => Evidence::BrokenSeal { seal: if e.index(2) == 0 { honest.seal.clone() } else { first }, head: second },
        };
        prop_assert!(judge(&evidence).is_err(), "{:?}", judge(&evidence));
        // Also if the parts are put forward as another kind, and through the file.
        let mut file = evidence.to_bytes();
        spoil(&mut file, &spoils);
        if let Ok(evidence) = Evidence::parse(&file) {
            prop_assert!(judge(&evidence).is_err());
        }
    }

    #[test]
    fn evidence_survives_its_bytes(
        kind in 0..5_usize,
        spoils in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lines in "logwood-evidence/v1\nkind [a-e]\n(part (first|old|seal|earlier) [0-9]{1,20}\n.{0,9}\n){0,3}",
    ) {
        let evidence = all()[kind].clone();
        let mut file = evidence.to_bytes();
        prop_assert_eq!(Evidence::parse(&file), Ok(evidence));
        spoil(&mut file, &spoils);
        for file in [&file, &bytes, lines.as_bytes()] {
            if let Ok(evidence) = Evidence::parse(file) {
                prop_assert_eq!(evidence.to_bytes(), file);
            }
        }
    }
}

/// A flipped bit leaves the proof standing or falls; none turns it into another accusation.
#[test]
fn a_flipped_bit_never_changes_whom_or_what_is_proved() {
    for evidence in all() {
        let expected = judge(&evidence).expect("proved");
        let file = evidence.to_bytes();
        let mut proved = 0;
        for bit in (0..8 * file.len()).step_by(5) {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(verdict) =
                Evidence::parse(&flipped).map_err(drop).and_then(|evidence| judge(&evidence).map_err(drop))
            {
                assert_eq!(verdict, expected, "bit {bit} of kind {}", evidence.kind());
                proved += 1;
            }
        }
        assert!(proved < file.len(), "most bits of kind {} count", evidence.kind());
    }
}

#[test]
fn checkpoints_that_only_ml_dsa_signed_convict_without_their_extension_lines() {
    let own = cosigner(ORIGIN, SignatureType::MlDsa44Cosignature, 5);
    let signed = |is_honest, extensions: Vec<String>| {
        let text = Checkpoint { origin: ORIGIN.into(), head: head_of(&history(7, is_honest)), extensions }.to_text();
        let line = own.cosign(&text, NOW).expect("a checkpoint");
        // The signature does not cover the extension lines, so that whoever holds the checkpoint may leave them out.
        let bare = Checkpoint { extensions: Vec::new(), ..Checkpoint::parse_text(&text).expect("a checkpoint") };
        (assemble_note(&text, std::slice::from_ref(&line)), assemble_note(&bare.to_text(), &[line]))
    };
    let (with, without) = signed(false, vec!["extension".into()]);
    let (first, _) = signed(true, Vec::new());
    let judge = |second| {
        Evidence::SplitView { first: first.clone().expect("a note"), second }.judge(&[own.verifier().clone()], None)
    };
    assert!(judge(with.expect("a note")).is_err());
    judge(without.expect("a note")).expect("proved");
}

#[test]
fn a_log_cannot_be_accused_by_the_key_of_another() {
    // Another log signs two histories under the origin of this one.
    let other = key("other.example/log", 3);
    let forged = |is_honest| sign_checkpoint(&other, ORIGIN, &head_of(&history(7, is_honest)));
    let evidence = Evidence::SplitView { first: forged(true), second: forged(false) };
    let keys = [log_key(), other.verifier().clone()];
    assert!(matches!(evidence.judge(&keys, Some(ORIGIN)), Err(NotProved::Keys(_))));
    evidence.judge(&keys, None).expect_err("it is not by the log");
    evidence.judge(&keys[1..], Some(ORIGIN)).expect("whoever names that key as the log's own says so");

    // Nor by a witness whose type of key signs for logs, too: it stands beside the log's in a policy.
    let witness = cosigner("witness.example", SignatureType::MlDsa44Cosignature, 4).verifier().clone();
    let own = Evidence::SplitView { first: checkpoint(7, true), second: checkpoint(7, false) };
    for keys in [[log_key(), witness.clone()], [witness, log_key()]] {
        own.judge(&keys, Some(ORIGIN)).expect("the witness's key does not stand in the way");
    }
}
