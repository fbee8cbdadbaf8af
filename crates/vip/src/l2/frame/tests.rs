use proptest::prelude::*;

use super::*;

const ME: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn ips() -> [IpAddr; 2] {
    [
        "10.0.0.100".parse().unwrap(),
        "2001:db8::64".parse().unwrap(),
    ]
}

#[test]
fn what_is_written_can_be_read() {
    for ip in ips() {
        for marked in [false, true] {
            let kind = Kind::Probe { marked };
            let expected = Sighting { ip, mac: ME, kind };
            assert_eq!(read(&probe(ME, ip, marked)), Some(expected));
        }
        for frame in announcements(ME, ip) {
            let kind = Kind::Claim;
            assert_eq!(read(&frame), Some(Sighting { ip, mac: ME, kind }));
        }
    }
}

#[test]
fn an_arp_probe_byte_by_byte() {
    let frame = probe(ME, ips()[0], false);
    let mut expected = vec![0xff; 6];
    expected.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    expected.extend([2, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    expected.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 100]);
    expected.resize(60, 0);
    assert_eq!(frame, expected);
}

#[test]
fn a_neighbour_packet_that_was_forwarded_or_damaged_says_nothing() {
    let good = announcements(ME, ips()[1]).remove(0);
    assert!(read(&good).is_some());
    let mut forwarded = good.clone();
    forwarded[21] = 254;
    assert_eq!(read(&forwarded), None);
    let mut damaged = good;
    damaged[60] ^= 1;
    assert_eq!(read(&damaged), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&frame);
    }

    #[test]
    fn no_cut_or_change_makes_it_panic(cut in 0usize..90, at in 0usize..90, with: u8) {
        for ip in ips() {
            for mut frame in announcements(ME, ip).into_iter().chain([probe(ME, ip, true)]) {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = with;
                }
                frame.truncate(cut);
                let _ = read(&frame);
            }
        }
    }
}
