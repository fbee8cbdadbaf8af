use super::*;
use crate::executor::Executor;

#[test]
fn what_was_refused_for_certain_is_not_in_the_way() {
    let executor = Executor::install(1);
    let mut history = History::default();
    let call = history.call(0, Some(RegisterCall::Write(1)));
    history.done(call, End::Nothing);
    let call = history.call(0, None);
    history.done(call, End::Call(RegisterCall::Read(None)));
    assert_eq!(history.check(), Ok(()));
    let call = history.call(0, None);
    history.done(call, End::Call(RegisterCall::Read(Some(1))));
    assert!(history.check().is_err());
    assert_eq!(history.counts(), (3, 0));
    executor.finish();
}
