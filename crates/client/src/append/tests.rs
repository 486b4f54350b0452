//! Every entry of a batch has exactly one outcome, and no receipt is made from a proof that fails.

use logwood_proto::range_proof_to_message;

use super::*;
use crate::testing::{key, leaves, range_proof as proof_of, verified};

/// Entries 2 to 4 are new, sent as 0, 2 and 3; entry 6's bytes were sent as 1 and are refused.
fn answer_of_seven() -> (Vec<Hash>, VerifiedHead, v1::Run, v1::EntryError) {
    let tree = leaves(7);
    let head = verified(7);
    let range_proof = Some(range_proof_to_message(&proof_of(2, 5, &tree)));
    let run = v1::Run { first_index: 2, request_ids: vec![0, 2, 3], duplicate: false, range_proof };
    let code = tonic::Code::AlreadyExists.into();
    let error = v1::EntryError { request_id: 1, code, message: "taken".to_owned(), index: Some(6) };
    (vec![tree[2], tree[6], tree[3], tree[4]], head, run, error)
}

fn is_tampering(leaves: &[Hash], head: &VerifiedHead, runs: &[v1::Run], errors: Vec<v1::EntryError>) -> bool {
    outcomes(leaves, Some(head), runs, errors).is_err_and(|error| error.is_tampering())
}

#[test]
fn receipts_of_a_batch_verify_offline() {
    let (sent, head, run, error) = answer_of_seven();
    let outcomes = outcomes(&sent, Some(&head), &[run], vec![error]).expect("an honest answer");
    for (place, index) in [(0, 2), (2, 3), (3, 4)] {
        let appended = outcomes[place].as_ref().expect("logged");
        assert_eq!(appended.index, LeafIndex(index));
        let receipt = Receipt::parse(&appended.receipt.to_bytes()).expect("well-formed");
        let entry = format!("entry {index}");
        receipt.verify(entry.as_bytes(), key(1).verifier(), None).expect("a receipt that verifies");
    }
    let refused = outcomes[1].as_ref().expect_err("refused");
    assert_eq!((refused.code, refused.index), (tonic::Code::AlreadyExists, Some(6)));
}

#[test]
fn an_answer_that_moves_drops_doubles_or_invents_an_entry_is_tampering() {
    let (sent, head, run, error) = answer_of_seven();
    let moved = v1::Run { first_index: 1, ..run.clone() };
    assert!(is_tampering(&sent, &head, &[moved], vec![error.clone()]));
    let swapped = v1::Run { request_ids: vec![2, 0, 3], ..run.clone() };
    assert!(is_tampering(&sent, &head, &[swapped], vec![error.clone()]));
    let unproved = v1::Run { range_proof: None, ..run.clone() };
    assert!(is_tampering(&sent, &head, &[unproved], vec![error.clone()]));
    let empty = v1::Run { request_ids: Vec::new(), ..run.clone() };
    assert!(is_tampering(&sent, &head, &[empty], vec![error.clone()]));
    assert!(is_tampering(&sent, &head, std::slice::from_ref(&run), Vec::new()));
    assert!(is_tampering(&sent, &head, &[run.clone(), run.clone()], vec![error.clone()]));
    let invented = v1::EntryError { request_id: 9, ..error.clone() };
    assert!(is_tampering(&sent, &head, &[run], vec![error, invented]));
}

#[test]
fn two_entries_at_one_place_are_tampering_unless_they_are_the_same_one() {
    let (tree, head) = (leaves(7), verified(7));
    let range_proof = Some(range_proof_to_message(&proof_of(2, 3, &tree)));
    let run =
        |id| v1::Run { first_index: 2, request_ids: vec![id], duplicate: id > 0, range_proof: range_proof.clone() };
    let outcomes = outcomes(&[tree[2], tree[2]], Some(&head), &[run(0), run(1)], Vec::new()).expect("each is proved");
    let sent = |key: Option<&'static str>| Sent { identity: key.map(Into::into), is_first: false };
    assert!(check_places(&[sent(Some("one")), sent(Some("one"))], &outcomes).is_ok(), "sent twice");
    for keys in [[Some("one"), Some("two")], [Some("one"), None], [None, None]] {
        assert!(check_places(&keys.map(sent), &outcomes).is_err_and(|error| error.is_tampering()), "{keys:?}");
    }
}

#[test]
fn a_made_up_identity_is_random() {
    let key = || Identity::from(None).into_key().expect("random").expect("made up");
    assert_eq!(key().len(), IDENTITY_BYTES);
    assert_ne!(key(), key());
    assert_eq!(Identity::Absent.into_key().expect("nothing to make"), None);
}
