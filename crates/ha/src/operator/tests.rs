use std::collections::BTreeSet;

use trilith_consensus::Epoch;

use super::*;
use crate::record::SyncSet;

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn names(list: &[&str]) -> BTreeSet<ServerName> {
    list.iter().map(|text| name(text)).collect()
}

fn servers() -> Vec<ServerName> {
    ["one", "two", "three"].map(name).to_vec()
}

fn record(members: &[&str]) -> Record {
    Record {
        term: 4,
        primary: name("one"),
        sync: SyncSet::majority(names(members)),
        open: true,
        base: None,
        expected: BTreeSet::new(),
        next: None,
        asynchronous: false,
        forced: false,
        timeline: 3,
        retaken: 0,
    }
}

/// One is the primary, and these confirm its commits.
fn running(members: &[&str]) -> StoreView {
    StoreView {
        revision: Revision(90),
        lease: Some((name("one"), Epoch(80))),
        record: Some((record(members), Revision(85))),
        ..StoreView::default()
    }
}

fn switchover(to: Option<&str>, view: &StoreView) -> Result<Checked, Refusal> {
    let to = to.map(name);
    check(&Ask::Switchover { to }, view, &servers())
}

fn failover(to: &str, accept_loss: bool, view: &StoreView) -> Result<Checked, Refusal> {
    let to = name(to);
    check(&Ask::Failover { to, accept_loss }, view, &servers())
}

fn order(checked: Result<Checked, Refusal>) -> Order {
    match checked {
        Ok(Checked::Do(order)) => *order,
        other => panic!("{other:?}"),
    }
}

fn why_not(checked: Result<Checked, Refusal>) -> String {
    let refusal = checked.unwrap_err();
    match refusal.next.is_empty() {
        true => refusal.why,
        false => format!("{} | {}", refusal.why, refusal.next.join(" | ")),
    }
}

fn request_in(txn: &Txn) -> Request {
    let put = txn.writes.iter().find_map(|write| match write {
        Write::Put { key, value } if *key == request_key() => Some(value),
        _ => None,
    });
    serde_json::from_slice(put.unwrap()).unwrap()
}

#[test]
fn a_switchover_goes_to_a_member_of_the_set() {
    let order = order(switchover(None, &running(&["two", "three"])));
    assert_eq!(
        order.then,
        "one stops in good order, and two becomes the primary"
    );
    let request = Request::Switchover {
        to: Some(name("two")),
        term: 4,
    };
    assert_eq!(request_in(&order.txn), request);
    // What it was checked against has to be so still.
    let conditions = [
        Condition::Absent { key: request_key() },
        unchanged(record_key(), Revision(85)),
        Condition::Absent { key: paused_key() },
    ];
    assert_eq!(order.txn.conditions, conditions);
    assert_eq!(
        why_not(switchover(Some("two"), &running(&["three"]))),
        "two is not a member of the synchronous set, and may lack writes: three has everything \
         | trilith db status"
    );
    assert_eq!(
        why_not(switchover(None, &running(&[]))),
        "no replica has every write yet: the synchronous set of one is empty | trilith db status"
    );
}

#[test]
fn what_is_so_already_is_said() {
    let already = Ok(Checked::Already("one is the primary already".to_owned()));
    assert_eq!(switchover(Some("one"), &running(&["two"])), already);
    assert_eq!(failover("one", true, &running(&["two"])), already);
    let resumed = check(&Ask::Resume, &running(&[]), &servers());
    assert_eq!(
        resumed,
        Ok(Checked::Already("failover is not paused".to_owned()))
    );
}

#[test]
fn unknown_servers_and_a_pause_are_refused() {
    assert_eq!(
        why_not(switchover(Some("four"), &running(&["two"]))),
        "four has not the role db: the database servers are one, two, three"
    );
    let mut view = running(&["two"]);
    view.paused = true;
    let paused = "failover is paused | trilith db resume";
    assert_eq!(why_not(switchover(Some("two"), &view)), paused);
    assert_eq!(why_not(failover("two", true, &view)), paused);
}

#[test]
fn without_a_primary_nobody_hands_over() {
    let mut view = running(&["two"]);
    view.lease = None;
    assert_eq!(
        why_not(switchover(Some("two"), &view)),
        "there is no primary that could hand over: nobody holds the lease | trilith db status | \
         trilith db failover --to SERVER"
    );
    let order = order(failover("two", false, &view));
    assert_eq!(order.then, "two becomes the primary");
    assert_eq!(order.warnings, Vec::<String>::new());
}

#[test]
fn a_failover_outside_of_the_set_takes_consent() {
    let view = running(&["two"]);
    assert_eq!(
        why_not(failover("three", false, &view)),
        "three is not a member of the synchronous set, and may lack writes: two has everything | \
         trilith db failover --to three --accept-loss"
    );
    let order = order(failover("three", true, &view));
    assert_eq!(
        order.warnings,
        [
            "three may lack acknowledged writes: they are lost then",
            "one is the primary, and is stopped hard; `trilith db switchover` is the gentle way",
        ]
    );
}

#[test]
fn one_request_at_a_time_but_a_failover_goes_first() {
    let mut view = running(&["two", "three"]);
    let to = |to: &str, term| Request::Switchover {
        to: Some(name(to)),
        term,
    };
    view.request = Some((to("two", 4), Revision(88)));
    assert_eq!(
        why_not(switchover(Some("three"), &view)),
        "another request is under way: switchover to two | trilith db status"
    );
    let order_now = order(failover("three", false, &view));
    assert_eq!(
        order_now.txn.conditions[0],
        unchanged(request_key(), Revision(88))
    );
    // One of an earlier term is void.
    view.request = Some((to("two", 3), Revision(60)));
    let order_now = order(switchover(Some("three"), &view));
    assert_eq!(
        order_now.txn.conditions[0],
        unchanged(request_key(), Revision(60))
    );
}

#[test]
fn the_first_primary_is_named_with_consent_only() {
    let view = StoreView::default();
    assert!(why_not(failover("two", false, &view)).ends_with("--to two --accept-loss"));
    let order = order(failover("two", true, &view));
    assert_eq!(request_in(&order.txn).term(), 0);
    assert_eq!(
        order.txn.conditions[1],
        Condition::Absent { key: record_key() }
    );
    assert_eq!(
        why_not(switchover(None, &view)),
        "there is no primary yet that could hand over | trilith db status"
    );
}

#[test]
fn only_replicas_are_made_anew() {
    let view = running(&["two"]);
    let reinit = |server: &str| {
        check(
            &Ask::Reinit {
                server: name(server),
            },
            &view,
            &servers(),
        )
    };
    assert_eq!(
        why_not(reinit("one")),
        "one is the primary: there is nobody whose data it could copy | trilith db switchover   \
         (then reinit one)"
    );
    assert_eq!(
        order(reinit("two")).warnings,
        [
            "two is the only replica that has every write: until its new copy is there, one alone has \
          them"
        ]
    );
    assert_eq!(order(reinit("three")).warnings, Vec::<String>::new());
}

#[test]
fn a_pause_says_what_it_means_without_a_primary() {
    let note = Paused {
        by: "root@one".to_owned(),
        since_unix_ms: 5,
    };
    let ask = Ask::Pause { note };
    let mut view = running(&["two"]);
    assert_eq!(order(check(&ask, &view, &servers())).warnings.len(), 1);
    view.lease = None;
    let order = order(check(&ask, &view, &servers()));
    assert_eq!(
        order.warnings[1],
        "there is no primary now: only one can become it again while failover is paused"
    );
}

#[test]
fn what_cannot_be_read_decides_nothing() {
    let mut view = running(&["two"]);
    view.unreadable = Some("`db/record` of the cluster store: no".to_owned());
    assert!(why_not(switchover(None, &view)).starts_with("a newer version of Trilith"));
}

#[test]
fn restarts_say_what_happens_and_in_which_order() {
    let file = servers();
    let restart = |named: &[&str], view: &StoreView| {
        let servers = named.iter().map(|text| name(text)).collect();
        check(&Ask::Restart { servers }, view, &file)
    };
    let mut view = running(&["two", "three"]);
    let all = order(restart(&[], &view));
    let then = "PostgreSQL restarts on two, three, one by one, then one hands over and restarts as a replica";
    assert_eq!((all.then.as_str(), all.warnings.len()), (then, 0));
    assert_eq!(all.servers, servers());
    assert_eq!(all.txn.writes.len(), 3);
    let two = order(restart(&["two"], &view));
    assert_eq!(two.then, "PostgreSQL restarts on two");
    let unknown = "four has not the role db: the database servers are one, two, three";
    assert_eq!(why_not(restart(&["four"], &view)), unknown);

    // One that is marked already goes on as it is.
    view.restart
        .insert(name("two"), (Restart::Begun, Revision(88)));
    assert_eq!(order(restart(&[], &view)).txn.writes.len(), 2);
    let already = "asked for already, and not done yet: a restart of two".to_owned();
    assert_eq!(restart(&["two"], &view), Ok(Checked::Already(already)));

    let alone = order(restart(&["one"], &running(&[])));
    assert_eq!(alone.then, "PostgreSQL restarts on one");
    let warning =
        "nobody can take over from one: it restarts in place, and nothing is written meanwhile";
    assert_eq!(alone.warnings, [warning]);
    view.paused = true;
    assert!(order(restart(&["one"], &view)).warnings[0].starts_with("failover is paused"));
    view.lease = None;
    let warnings = order(restart(&["three"], &view)).warnings;
    assert_eq!(
        warnings,
        ["there is no primary at the moment: it waits for one"]
    );
}
