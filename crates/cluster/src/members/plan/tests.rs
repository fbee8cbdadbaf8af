use super::*;

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

/// Servers `a`, `b`, ... with ids 1, 2, ... and ports alike.
struct World {
    members: Members,
    wanted: Vec<Listed>,
    waiting: BTreeMap<ServerName, (NodeId, SocketAddr)>,
    ready: BTreeSet<NodeId>,
    /// Servers that are not where they are listed yet.
    elsewhere: BTreeSet<ServerName>,
}

fn letter(n: u64) -> String {
    char::from(b'a' - 1 + u8::try_from(n).unwrap()).to_string()
}

fn node(n: u64) -> Node {
    Node::new(&name(&letter(n)), address(u16::try_from(n).unwrap()))
}

fn world(voters: &[u64], learners: &[u64], wanted: &[u64]) -> World {
    let all = voters.iter().chain(learners);
    let listed = |n: &u64| Listed {
        name: name(&letter(*n)),
        address: address(u16::try_from(*n).unwrap()),
        votes: true,
    };
    World {
        members: Members {
            voters: vec![voters.iter().copied().collect()],
            nodes: all.clone().map(|n| (*n, node(*n))).collect(),
        },
        wanted: wanted.iter().map(listed).collect(),
        waiting: BTreeMap::new(),
        ready: all.copied().collect(),
        elsewhere: BTreeSet::new(),
    }
}

impl World {
    fn wait(mut self, server: u64, id: NodeId) -> Self {
        let port = u16::try_from(server).unwrap();
        self.waiting
            .insert(name(&letter(server)), (id, address(port)));
        self
    }

    fn plan(&self) -> Option<Step> {
        let there = self.wanted.iter();
        let there = there.filter(|server| !self.elsewhere.contains(&server.name));
        plan(&Observed {
            answered: &there.map(|s| (s.name.clone(), s.address)).collect(),
            members: &self.members,
            wanted: &self.wanted,
            waiting: &self.waiting,
            ready: &self.ready,
        })
    }

    /// Does what is planned until nothing is.
    fn settle(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = self.plan() {
            match step.clone() {
                Step::AddLearner { id, node } | Step::SetAddress { id, node } => {
                    self.members.nodes.insert(id, node);
                    self.ready.insert(id);
                }
                Step::SetVoters(voters) => {
                    let old = self.members.voters[0].clone();
                    self.members
                        .nodes
                        .retain(|id, _| voters.contains(id) || !old.contains(id));
                    self.members.voters = vec![voters];
                }
                Step::RemoveLearners(ids) => self.members.nodes.retain(|id, _| !ids.contains(id)),
            }
            steps.push(step);
            assert!(steps.len() < 20, "it does not come to an end: {steps:?}");
        }
        steps
    }

    fn voters(&self) -> Vec<u64> {
        self.members.voters[0].iter().copied().collect()
    }

    fn members(&self) -> Vec<u64> {
        self.members.nodes.keys().copied().collect()
    }
}

#[test]
fn nothing_to_do() {
    assert_eq!(world(&[1, 2, 3], &[], &[1, 2, 3]).plan(), None);
    // Servers that are listed but never asked are not there yet.
    assert_eq!(world(&[1, 2, 3], &[], &[1, 2, 3, 4]).plan(), None);
}

#[test]
fn a_new_server_learns_and_then_votes() {
    let mut world = world(&[1, 2, 3], &[], &[1, 2, 3, 4]).wait(4, 4);
    let steps = world.settle();
    assert!(matches!(
        steps[..],
        [Step::AddLearner { id: 4, .. }, Step::SetVoters(_)]
    ));
    assert_eq!(world.voters(), [1, 2, 3, 4]);
}

#[test]
fn who_is_not_ready_does_not_vote_yet() {
    let mut world = world(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
    world.ready.remove(&4);
    assert_eq!(world.plan(), None);
}

#[test]
fn five_vote_and_the_others_learn() {
    let mut world = world(&[1, 2, 3], &[], &[6, 1, 2, 3, 4, 5, 7]);
    for n in 4..=7 {
        world = world.wait(n, n);
    }
    world.settle();
    // Those that vote already stay; the others come in the order of the file.
    assert_eq!(world.voters(), [1, 2, 3, 4, 6]);
    assert_eq!(world.members(), [1, 2, 3, 4, 5, 6, 7]);
    // When one goes, the next one takes its vote.
    world.wanted.retain(|server| server.name.as_str() != "b");
    world.settle();
    assert_eq!(world.voters(), [1, 3, 4, 5, 6]);
    assert_eq!(world.members(), [1, 3, 4, 5, 6, 7]);
}

#[test]
fn a_server_under_a_new_id_takes_its_old_ones_place() {
    let mut world = world(&[1, 2, 3], &[], &[1, 2, 3]).wait(2, 22);
    let steps = world.settle();
    assert!(
        matches!(&steps[..], [Step::AddLearner { id: 22, .. }, Step::SetVoters(v)]
        if *v == BTreeSet::from([1, 3, 22]))
    );
    assert_eq!(world.members(), [1, 3, 22]);
    // A learner, too.
    let mut world = self::world(&[1, 2, 3], &[4], &[1, 2, 3, 4]).wait(4, 44);
    world.wanted[3].votes = false;
    world.settle();
    assert_eq!(world.voters(), [1, 2, 3]);
    assert_eq!(world.members(), [1, 2, 3, 44]);
}

#[test]
fn the_late_word_of_an_earlier_life_is_corrected() {
    let mut world = world(&[1, 3, 22], &[], &[1, 2, 3]);
    world.members.nodes.insert(22, node(2));
    let mut world = world.wait(2, 2);
    assert!(matches!(world.plan(), Some(Step::AddLearner { id: 2, .. })));
    // It does not answer: it is dead.
    world.members.nodes.insert(2, node(2));
    assert_eq!(world.plan(), None);
    let world = world.wait(2, 22);
    assert_eq!(
        world.plan(),
        Some(Step::RemoveLearners(BTreeSet::from([2])))
    );
}

#[test]
fn an_unfinished_change_is_finished_first() {
    let mut world = world(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
    world.members.voters.push(BTreeSet::from([1, 2, 4]));
    let next = BTreeSet::from([1, 2, 4]);
    assert_eq!(world.plan(), Some(Step::SetVoters(next)));
}

#[test]
fn who_is_not_listed_goes_but_a_wrong_list_removes_nobody() {
    let mut world = world(&[1, 2, 3], &[4, 5], &[1, 2, 3, 5]);
    world.wanted[3].votes = false;
    assert_eq!(
        world.plan(),
        Some(Step::RemoveLearners(BTreeSet::from([4])))
    );
    world.wanted.clear();
    assert_eq!(world.plan(), None);
    assert_eq!(self::world(&[1, 2, 3], &[], &[7, 8, 9]).plan(), None);
}

#[test]
fn addresses_follow_the_config_file() {
    let mut world = world(&[1, 2, 3], &[], &[1, 2, 3]);
    world.wanted[1].address = address(99);
    world.elsewhere.insert(name("b"));
    assert_eq!(world.plan(), None, "it does not answer there");
    world.elsewhere.clear();
    let steps = world.settle();
    assert!(
        matches!(&steps[..], [Step::SetAddress { id: 2, node }] if node.address.ends_with(":99"))
    );
}
