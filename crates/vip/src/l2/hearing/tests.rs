use super::*;

#[test]
fn only_a_counter_that_grows_is_hearing() {
    let at = |ms: u64| BootTime::default() + Duration::from_millis(ms);
    let mut hearing = Hearing::default();
    assert!(
        !hearing.heard(10, at(0)),
        "it may have stood there for long"
    );
    assert!(!hearing.heard(10, at(250)));
    assert!(hearing.heard(11, at(500)));
    assert!(hearing.heard(11, at(1_500)), "lately");
    assert!(!hearing.heard(11, at(1_501)));
    assert_eq!(
        hearing.silence(at(2_500)),
        Some(Duration::from_millis(2_000))
    );
    assert!(hearing.heard(12, at(2_600)));
    // Another interface under the same number.
    let mut hearing = Hearing::default();
    hearing.heard(10, at(0));
    assert!(!hearing.heard(3, at(100)));
    assert!(hearing.heard(4, at(200)));
}

#[test]
fn gateways_of_the_default_routes() {
    let number = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
    let (one, two) = (number([192, 0, 2, 1]), number([192, 0, 2, 2]));
    let text = format!(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
         eth0\t00000000\t{one}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
         eth0\t00000000\t{one}\t0003\t0\t0\t9\t00000000\t0\t0\t0\n\
         eth0\t00000000\t{two}\t0003\t0\t0\t9\t00000000\t0\t0\t0\n\
         ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n\
         eth1\t00000000\t{two}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
         eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
         eth0\t0002"
    );
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let wanted = [ip("192.0.2.1"), ip("192.0.2.2")];
    assert_eq!(listed(&text, "eth0", v4), wanted);
    assert_eq!(listed(&text, "eth1", v4), [ip("192.0.2.2")]);
    assert_eq!(listed(&text, "ppp0", v4), [] as [IpAddr; 0]);

    let none = "0".repeat(32);
    let text = format!(
        "fd000000000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001     eth0\n\
         {none} 00 {none} 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n\
         {none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200       lo\n\
         {none} 00 {none} 00 fe8000"
    );
    assert_eq!(listed(&text, "eth0", v6), [ip("fe80::1")]);
    assert_eq!(listed(&text, "lo", v6), [] as [IpAddr; 0]);
}
