use super::*;

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(1_000 + seconds))
}

fn v4(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn one_who_guesses_does_not_keep_others_out() {
    let mut pace = Pace::new();
    let tries = |pace: &mut Pace, from, now| (0..100).filter(|_| pace.admit(from, now)).count();
    assert_eq!(
        tries(&mut pace, v4(1), at(0)),
        JOIN_BURST_PER_ADDRESS as usize
    );
    assert!(pace.admit(v4(2), at(0)));
    // It fills again with time, and no further than the burst.
    assert_eq!(tries(&mut pace, v4(1), at(2)), 1);
    assert_eq!(
        tries(&mut pace, v4(1), at(10_000)),
        JOIN_BURST_PER_ADDRESS as usize
    );
}

#[test]
fn many_are_limited_together() {
    let mut pace = Pace::new();
    let admitted = (0..=255)
        .filter(|last| pace.admit(v4(*last), at(0)))
        .count();
    assert_eq!(admitted, JOIN_BURST as usize);
    assert!(pace.admit(v4(1), at(60)));
}

#[test]
fn a_network_of_ipv6_is_one() {
    let mut pace = Pace::new();
    let admitted = (0..100u128)
        .filter(|host| {
            let address = Ipv6Addr::from_bits((0x2001_0db8 << 96) | host);
            pace.admit(address.into(), at(0))
        })
        .count();
    assert_eq!(admitted, JOIN_BURST_PER_ADDRESS as usize);
    assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), v4(1));
}

#[test]
fn it_does_not_grow_without_end() {
    let mut pace = Pace::new();
    for n in 0..100_000u32 {
        pace.admit(IpAddr::V4(n.into()), at(u64::from(n)));
        assert!(pace.by_address.len() <= JOIN_ADDRESSES_MAX);
    }
}
