//! Witnesses that are slow, down, behind, ahead, forked or lying, and what the log makes of them.

use std::collections::{BTreeMap, BTreeSet};

use logwood_merkle::{CompactRange, Hash, NodeId, TreeHead, TreeSize, plan};
use logwood_note::policy::PolicyWitness;
use logwood_note::{
    AddCheckpoint, Checkpoint, CosigningKey, Policy, PrivateKey, SignatureType, SignedNote, SigningKey, sign_checkpoint,
};
use logwood_sequencer::witnessing::{Action, Behind, Event, Problem, WitnessId, WitnessSettings, Witnessing};
use proptest::prelude::*;

const ORIGIN: &str = "log.example/logs/audit";
const DEADLINE_MS: u64 = 2_000;
const A: WitnessId = WitnessId(0);
const B: WitnessId = WitnessId(1);
const C: WitnessId = WitnessId(2);

/// Every head of one tree, and its proofs.
struct Tree {
    heads: Vec<TreeHead>,
    nodes: BTreeMap<NodeId, Hash>,
}

impl Tree {
    fn new(label: &str, size: u64) -> Self {
        let (mut range, mut nodes) = (CompactRange::new(), BTreeMap::new());
        let mut heads = vec![range.head()];
        for index in 0..size {
            range.append(Hash::leaf(format!("{label} {index}").as_bytes()), |id, hash| {
                nodes.insert(id, hash);
            });
            heads.push(range.head());
        }
        Self { heads, nodes }
    }

    fn head(&self, size: u64) -> TreeHead {
        self.heads[usize::try_from(size).expect("a small tree")]
    }

    fn proof(&self, from: TreeSize, to: TreeSize) -> Vec<Hash> {
        let plan = plan::consistency(from, to).expect("sizes in order");
        let fetched: Vec<Hash> = plan.nodes().iter().map(|id| self.nodes[id]).collect();
        plan.assemble(&fetched).expect("as many as planned")
    }

    fn note(&self, size: u64) -> SignedNote {
        let key = SigningKey::from_seed(ORIGIN, &[1; 32]).expect("a name");
        SignedNote::parse(&sign_checkpoint(&key, ORIGIN, &self.head(size))).expect("a note")
    }
}

fn key(name: &str, kind: SignatureType, seed: u8) -> CosigningKey {
    PrivateKey::from_seed(name, kind, &[seed; 32]).expect("a name").try_into().expect("a type that cosigns")
}

fn keys() -> [CosigningKey; 3] {
    [("a", 2), ("b", 3), ("c", 4)].map(|(name, seed)| key(name, SignatureType::Ed25519Cosignature, seed))
}

/// Two of three witnesses.
fn policy() -> Policy {
    let lines = ["a", "b", "c"]
        .iter()
        .zip(keys())
        .map(|(name, key)| format!("witness {name} {} https://{name}.example\n", key.verifier()))
        .collect::<Vec<_>>()
        .concat();
    Policy::parse(format!("{lines}group two 2 a b c\nquorum two\n").as_bytes()).expect("a policy")
}

/// One log with three witnesses, driven by hand.
struct Run {
    machine: Witnessing,
    tree: Tree,
    now_ms: u64,
}

impl Run {
    fn new(settings: WitnessSettings) -> Self {
        let machine = Witnessing::new(policy(), DEADLINE_MS, |_| settings);
        Self { machine, tree: Tree::new("entry", 40), now_ms: 100 }
    }

    fn offer(&mut self, size: u64) -> Vec<Action> {
        let (head, checkpoint) = (self.tree.head(size), self.tree.note(size));
        self.handle(Event::Offered { head, checkpoint })
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.machine.handle(event, self.now_ms);
        self.machine.poll(self.now_ms)
    }

    fn pass(&mut self, ms: u64) -> Vec<Action> {
        self.now_ms += ms;
        self.machine.poll(self.now_ms)
    }

    fn answer(&mut self, witness: WitnessId, status: u16, body: impl Into<Vec<u8>>) -> Vec<Action> {
        self.handle(Event::Answered { witness, status, body: body.into() })
    }

    fn cosign(&mut self, witness: WitnessId, size: u64) -> Vec<Action> {
        self.answer(witness, 200, cosigned(&keys()[witness.0], &self.tree.note(size)))
    }

    fn prove(&mut self, witness: WitnessId, from: u64, to: u64) -> Vec<Action> {
        let proof = self.tree.proof(TreeSize(from), TreeSize(to));
        self.handle(Event::Proved { witness, from: self.tree.head(from), proof })
    }
}

fn cosigned(key: &CosigningKey, note: &SignedNote) -> String {
    format!("{}\n", key.cosign(note.text(), 1_700_000_000).expect("a checkpoint"))
}

/// To whom something is sent: old size, proof hashes and new size.
fn sent(actions: &[Action]) -> Vec<(WitnessId, u64, usize, u64)> {
    let sends = actions.iter().filter_map(|action| match action {
        Action::Send { witness, body } => Some((*witness, AddCheckpoint::parse(body).expect("well-formed"))),
        _ => None,
    });
    sends
        .map(|(witness, request)| {
            let size = Checkpoint::parse_text(request.checkpoint.text()).expect("a checkpoint").head.size.0;
            (witness, request.old_size.0, request.proof.len(), size)
        })
        .collect()
}

fn witnessed(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Witnessed { head } => Some(head.size.0),
        _ => None,
    })
}

fn stops(actions: &[Action]) -> Option<Behind> {
    actions.iter().find_map(|action| match action {
        Action::StopSigning { why, .. } => Some(*why),
        _ => None,
    })
}

fn troubles(actions: &[Action]) -> Option<Problem> {
    actions.iter().find_map(|action| match action {
        Action::Trouble { problem, .. } => Some(*problem),
        _ => None,
    })
}

#[test]
fn a_quorum_is_enough_and_a_late_cosignature_is_still_told() {
    let mut run = Run::new(WitnessSettings::default());
    assert_eq!(sent(&run.offer(5)), [(A, 0, 0, 5), (B, 0, 0, 5), (C, 0, 0, 5)]);
    assert_eq!(witnessed(&run.cosign(A, 5)), None);
    assert_eq!(witnessed(&run.cosign(B, 5)), Some(5));
    run.pass(10_000);
    let late = run.cosign(C, 5);
    assert!(matches!(&late[..], [Action::Cosigned { witness: C, lines, .. }] if lines.len() == 1), "{late:?}");
    assert_eq!(run.machine.wake_ms(), None, "everything is done");
}

#[test]
fn without_a_quorum_in_time_the_missing_are_named_and_asked_again() {
    let mut run = Run::new(WitnessSettings::default());
    run.offer(5);
    run.cosign(A, 5);
    let down = run.handle(Event::Failed { witness: B });
    assert_eq!(troubles(&down), Some(Problem::NoAnswer));
    assert!(run.pass(DEADLINE_MS - 1).iter().any(|action| matches!(action, Action::Send { witness: B, .. })));
    let passed = run.pass(1);
    let [Action::DeadlinePassed { missing, .. }] = &passed[..] else { panic!("{passed:?}") };
    assert_eq!(missing.absent, [b"b", b"c"]);
    assert_eq!(run.pass(5_000), [], "told once");
    assert_eq!(witnessed(&run.cosign(C, 5)), Some(5), "late, and a quorum all the same");
}

#[test]
fn a_conflict_is_answered_with_the_proof_from_the_size_named() {
    let mut run = Run::new(WitnessSettings { min_interval_ms: 60_000, is_distrusted: false });
    run.offer(9);
    let learned = run.answer(A, 409, "6\n");
    assert_eq!(learned, [Action::Prove { witness: A, from: TreeSize(6), to: TreeSize(9) }]);
    let hashes = run.tree.proof(TreeSize(6), TreeSize(9)).len();
    assert_eq!(sent(&run.prove(A, 6, 9)), [(A, 6, hashes, 9)]);
    run.cosign(A, 9);
    assert_eq!(sent(&run.answer(B, 409, "9\n")), [(B, 9, 0, 9)], "it has our head already");
    // The size is remembered.
    run.pass(60_000);
    assert!(run.offer(12).contains(&Action::Prove { witness: A, from: TreeSize(9), to: TreeSize(12) }));
}

#[test]
fn conflicts_without_end_lead_to_back_off() {
    let mut run = Run::new(WitnessSettings::default());
    run.offer(9);
    for size in [6, 5] {
        assert!(matches!(run.answer(A, 409, format!("{size}\n"))[..], [Action::Prove { .. }]));
        run.prove(A, size, 9);
    }
    assert_eq!(troubles(&run.answer(A, 409, "4\n")), Some(Problem::Malformed));
    assert_eq!(run.pass(999), []);
    assert!(matches!(run.pass(1)[..], [Action::Prove { witness: A, .. }]));
}

#[test]
fn a_witness_that_knows_more_than_we_do_stops_the_signing() {
    let mut run = Run::new(WitnessSettings::default());
    run.offer(9);
    assert_eq!(stops(&run.answer(A, 409, "10\n")), Some(Behind::Larger { size: TreeSize(10) }));
    // A larger one than was sent, but not than was offered since, is a race.
    run.offer(12);
    assert_eq!(stops(&run.answer(B, 409, "10\n")), None);
    let mut overruled = Run::new(WitnessSettings { min_interval_ms: 0, is_distrusted: true });
    overruled.offer(9);
    assert_eq!(stops(&overruled.answer(A, 409, "10\n")), None, "the operator overruled it");
}

#[test]
fn what_has_been_heard_counts_a_witness_that_is_overruled_with_all_of_its_keys() {
    let mut run = Run::new(WitnessSettings::default());
    run.offer(9);
    assert!(!run.machine.has_heard_any() && !run.machine.has_heard_quorum());
    run.cosign(A, 9);
    assert!(run.machine.has_heard_any() && !run.machine.has_heard_quorum(), "two of three");
    // Of different heads: each of them knew no more than we do.
    run.offer(12);
    run.cosign(B, 9);
    assert!(run.machine.has_heard_quorum());

    // Two keys at one URL are one witness; distrust of either is distrust of both.
    let [a, b, c] = keys().map(|key| key.verifier().to_string());
    let all = "group all all a b c\nquorum all\n";
    let text = format!("witness a {a} https://ab\nwitness b {b} https://ab\nwitness c {c} https://c\n{all}");
    let distrusting = |names: &'static [&'static [u8]]| {
        let is_distrusted = |witness: &PolicyWitness| names.contains(&&witness.name[..]);
        let settings =
            |witness: &PolicyWitness| WitnessSettings { min_interval_ms: 0, is_distrusted: is_distrusted(witness) };
        let machine = Witnessing::new(Policy::parse(text.as_bytes()).expect("a policy"), DEADLINE_MS, settings);
        Run { machine, tree: Tree::new("entry", 40), now_ms: 100 }
    };
    let mut run = distrusting(&[b"a"]);
    run.offer(9);
    assert!(!run.machine.has_heard_any() && !run.machine.has_heard_quorum());
    run.answer(A, 200, cosigned(&keys()[0], &run.tree.note(9)));
    assert!(!run.machine.has_heard_any(), "what a distrusted witness says opens nothing");
    run.answer(B, 200, cosigned(&keys()[2], &run.tree.note(9)));
    assert!(run.machine.has_heard_any() && run.machine.has_heard_quorum());
    let none_is_left = distrusting(&[b"b", b"c"]).machine;
    assert!(none_is_left.has_heard_any() && none_is_left.has_heard_quorum());
}

#[test]
fn a_right_proof_refused_stops_the_signing_and_a_wrong_one_is_never_sent() {
    let mut run = Run::new(WitnessSettings::default());
    run.offer(9);
    run.answer(A, 409, "6\n");
    let fork = Tree::new("fork", 9);
    let proof = fork.proof(TreeSize(6), TreeSize(9));
    let wrong = run.handle(Event::Proved { witness: A, from: fork.head(6), proof });
    assert_eq!((sent(&wrong), troubles(&wrong)), (vec![], Some(Problem::NoProof)));
    run.pass(1_000);
    run.prove(A, 6, 9);
    assert_eq!(stops(&run.answer(A, 422, "no\n")), Some(Behind::Other { size: TreeSize(6) }));
    // Equal sizes and other roots, as earlier versions of the specification have it.
    assert_eq!(stops(&run.answer(B, 409, "9\n")), None);
    assert_eq!(stops(&run.answer(B, 409, "9\n")), Some(Behind::Other { size: TreeSize(9) }));
}

#[test]
fn what_is_no_cosignature_of_this_head_by_this_witness_counts_for_nothing() {
    let mut run = Run::new(WitnessSettings::default());
    let [a, b, _] = keys();
    let text = run.tree.note(9).text().to_owned();
    let untimed = format!("{}\n", a.cosign(&text, 0).expect("a checkpoint"));
    let another = cosigned(&a, &run.tree.note(8));
    let mixed = [cosigned(&a, &run.tree.note(9)), another.clone()].concat();
    let stranger = cosigned(&b, &run.tree.note(9));
    run.offer(9);
    for (what, body) in [
        ("nothing", String::new()),
        ("no lines", "hello\n".to_owned()),
        ("of another head", another),
        ("a good one and a bad one", mixed),
        ("another witness's", stranger.clone()),
        ("without a time", untimed),
        ("too long", "x".repeat(100_000)),
    ] {
        let refused = run.answer(A, 200, body);
        let problem = troubles(&refused);
        assert!(matches!(problem, Some(Problem::BadCosignature | Problem::Malformed)), "{what}: {refused:?}");
        assert!(!refused.iter().any(|action| matches!(action, Action::Cosigned { .. })), "{what}");
        assert_eq!(sent(&run.pass(60_000)), [(A, 0, 0, 9)], "{what}");
    }
    // Lines of strangers beside a good one are ignored.
    let both = run.answer(A, 200, [stranger, cosigned(&a, &run.tree.note(9))].concat());
    assert!(matches!(&both[..], [Action::Cosigned { lines, .. }] if lines.len() == 1), "{both:?}");
    for status in [204, 301, 400, 403, 404, 429, 500, 503] {
        run.offer(10);
        assert_eq!(troubles(&run.answer(B, status, "")), Some(Problem::Status(status)));
        run.pass(60_000);
    }
}

#[test]
fn a_witness_gets_one_request_at_a_time_in_its_interval_and_always_the_newest_head() {
    let mut run = Run::new(WitnessSettings { min_interval_ms: 500, is_distrusted: false });
    assert_eq!(sent(&run.offer(5)).len(), 3);
    assert_eq!(sent(&run.offer(6)), [], "all are busy");
    assert_eq!(sent(&run.offer(7)), []);
    assert_eq!(run.cosign(A, 5).len(), 1, "for the head that it is of");
    assert_eq!(run.pass(499), []);
    assert_eq!(run.pass(1), [Action::Prove { witness: A, from: TreeSize(5), to: TreeSize(7) }], "6 is not made up");
    assert_eq!(witnessed(&run.cosign(B, 5)), Some(5), "a quorum of an older head");
}

#[test]
fn failures_double_the_wait_up_to_a_minute() {
    let mut run = Run::new(WitnessSettings::default());
    run.offer(5);
    let mut waits = Vec::new();
    for _ in 0..9 {
        run.handle(Event::Failed { witness: A });
        let mut waited = 0;
        while !run.pass(500).iter().any(|action| matches!(action, Action::Send { witness: A, .. })) {
            waited += 500;
        }
        waits.push(waited + 500);
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
}

#[test]
fn two_keys_at_one_url_are_one_witness() {
    let name = "witness.example/w";
    let keys =
        [(SignatureType::Ed25519Cosignature, 5), (SignatureType::MlDsa44Cosignature, 6)].map(|(k, s)| key(name, k, s));
    let lines = format!(
        "witness ed {} https://w.example\nwitness ml {} https://w.example\nwitness silent {}\ngroup both all ed ml\n\
         quorum both\n",
        keys[0].verifier(),
        keys[1].verifier(),
        self::keys()[0].verifier()
    );
    let policy = Policy::parse(lines.as_bytes()).expect("a policy");
    let tree = Tree::new("entry", 5);
    let mut machine = Witnessing::new(policy, DEADLINE_MS, |_| WitnessSettings::default());
    assert_eq!(machine.urls().collect::<Vec<_>>(), [b"https://w.example"]);
    machine.handle(Event::Offered { head: tree.head(5), checkpoint: tree.note(5) }, 0);
    assert_eq!(sent(&machine.poll(0)).len(), 1);
    let body = keys.iter().map(|key| cosigned(key, &tree.note(5))).collect::<String>().into_bytes();
    machine.handle(Event::Answered { witness: A, status: 200, body }, 1);
    assert_eq!(witnessed(&machine.poll(1)), Some(5));
}

/// What the peers and the clock do.
#[derive(Clone, Debug)]
enum Happening {
    Grow(u64),
    Pass(u64),
    Answer(usize, Reply),
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Good,
    Status(u16),
    Conflict(u64),
    Garbage,
    Nothing,
}

fn happening() -> impl Strategy<Value = Happening> {
    let reply = prop_oneof![
        4 => Just(Reply::Good),
        1 => prop::sample::select(vec![400_u16, 404, 422, 500]).prop_map(Reply::Status),
        2 => (0_u64..45).prop_map(Reply::Conflict),
        1 => Just(Reply::Garbage),
        1 => Just(Reply::Nothing),
    ];
    prop_oneof![
        2 => (0_u64..4).prop_map(Happening::Grow),
        2 => (0_u64..3_000).prop_map(Happening::Pass),
        6 => (0_usize..3, reply).prop_map(|(witness, reply)| Happening::Answer(witness, reply)),
    ]
}

proptest! {
    #[test]
    fn whatever_witnesses_answer_heads_are_witnessed_by_a_quorum_alone(
        happenings in prop::collection::vec(happening(), 1..80),
    ) {
        let mut run = Run::new(WitnessSettings { min_interval_ms: 200, is_distrusted: false });
        let (mut size, mut newest) = (1, 1);
        let mut in_flight: BTreeMap<WitnessId, u64> = BTreeMap::new();
        let mut proving: BTreeMap<WitnessId, (u64, u64)> = BTreeMap::new();
        let mut cosigners: BTreeMap<u64, BTreeSet<WitnessId>> = BTreeMap::new();
        let mut actions = run.offer(1);
        for happening in happenings {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Send { witness, body } => {
                        let (_, old, _, sent) = sent(&[Action::Send { witness, body }])[0];
                        prop_assert!(old <= sent && sent <= newest);
                        prop_assert_eq!(in_flight.insert(witness, sent), None, "two in flight");
                    }
                    Action::Prove { witness, from, to } => {
                        prop_assert!(!in_flight.contains_key(&witness));
                        prop_assert_eq!(to.0, newest, "the newest head");
                        proving.insert(witness, (from.0, to.0));
                    }
                    Action::Cosigned { witness, head, .. } => {
                        cosigners.entry(head.size.0).or_default().insert(witness);
                    }
                    Action::Witnessed { head } => prop_assert!(cosigners[&head.size.0].len() >= 2),
                    Action::StopSigning { .. } | Action::Trouble { .. } | Action::DeadlinePassed { .. } => {}
                }
            }
            actions = match happening {
                Happening::Grow(by) => {
                    size = (size + by).min(40);
                    newest = size;
                    run.offer(size)
                }
                Happening::Pass(ms) => run.pass(ms),
                Happening::Answer(place, reply) => {
                    let witness = WitnessId(place);
                    if let Some((from, to)) = proving.remove(&witness) {
                        run.prove(witness, from, to)
                    } else if let Some(size) = in_flight.remove(&witness) {
                        match reply {
                            Reply::Good => run.cosign(witness, size),
                            Reply::Status(status) => run.answer(witness, status, "text\n"),
                            Reply::Conflict(size) => run.answer(witness, 409, format!("{size}\n")),
                            Reply::Garbage => run.answer(witness, 200, vec![0xff; 99]),
                            Reply::Nothing => run.handle(Event::Failed { witness }),
                        }
                    } else {
                        // An answer that nobody asked for changes nothing.
                        run.cosign(witness, newest)
                    }
                }
            };
        }
    }
}
