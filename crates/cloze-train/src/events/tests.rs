use super::*;

/// An event, read back.
#[derive(Debug, Default, PartialEq)]
struct Event {
    wall_time: f64,
    step: u64,
    version: Option<String>,
    session: Option<u64>,
    values: Vec<(String, f32)>,
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Field<'_> {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => panic!("bytes"),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Number(_) => panic!("a number"),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }
}

fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = data.split_at(count);
    *data = tail;
    head
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn varint(data: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = take(data, 1)[0];
        value |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn fields(mut data: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut data)),
            1 => Field::Number(number(take(&mut data, 8))),
            2 => {
                let length = varint(&mut data) as usize;
                Field::Bytes(take(&mut data, length))
            }
            5 => Field::Number(number(take(&mut data, 4))),
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn decode(data: &[u8]) -> Event {
    let mut event = Event::default();
    for (name, field) in fields(data) {
        match name {
            1 => event.wall_time = f64::from_bits(field.number()),
            2 => event.step = field.number(),
            3 => event.version = Some(field.text()),
            5 => {
                for (name, value) in fields(field.bytes()) {
                    assert_eq!(name, 1);
                    let value = fields(value.bytes());
                    assert_eq!((value[0].0, value[1].0, value.len()), (1, 2, 2));
                    let simple = f32::from_bits(value[1].1.number() as u32);
                    event.values.push((value[0].1.text(), simple));
                }
            }
            7 => {
                let session = fields(field.bytes());
                assert_eq!((session[0].0, session.len()), (1, 1));
                event.session = Some(session[0].1.number());
            }
            other => panic!("field {other}"),
        }
    }
    event
}

/// A bit at a time, undoing the mask: nothing in common with what is tested.
fn check(data: &[u8], stored: &[u8]) {
    let mut crc = u32::MAX;
    for &byte in data {
        for bit in 0..8 {
            let odd = (crc ^ u32::from(byte >> bit)) & 1;
            crc = (crc >> 1) ^ (odd * 0x82F6_3B78);
        }
    }
    let rotated = (number(stored) as u32).wrapping_sub(0xA282_EAD8);
    assert_eq!(rotated.rotate_left(15), !crc);
}

fn read(path: &Path) -> Vec<Event> {
    let file = fs::read(path).unwrap();
    let (mut rest, mut events) = (&file[..], Vec::new());
    while !rest.is_empty() {
        let length = take(&mut rest, 8);
        check(length, take(&mut rest, 4));
        let data = take(&mut rest, number(length) as usize);
        check(data, take(&mut rest, 4));
        events.push(decode(data));
    }
    events
}

fn name(log: &EventLog) -> &str {
    log.path().file_name().unwrap().to_str().unwrap()
}

#[test]
fn crc32c_of_known_vectors() {
    // RFC 3720, B.4, and the usual check value.
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
    assert_eq!(crc32c(&[]), 0);
}

#[test]
fn what_is_written_is_read_back() {
    let run = tempfile::tempdir().unwrap();
    let mut log = EventLog::create(run.path(), "a.b/c", 1_700_000_000.75, 0).unwrap();
    assert_eq!(name(&log), "events.out.tfevents.1700000000.a-b-c.0");
    assert_eq!(log.path().parent().unwrap(), run.path().join(FOLDER));
    let long = "ä".repeat(100);
    let values = [("train/loss", 0.1), (&long, -1e300), ("", 0.0)];
    log.scalars(128, 1_700_000_001.5, &values).unwrap();
    log.scalars(1 << 40, 1_700_000_002.5, &[]).unwrap();
    log.flush().unwrap();
    let expected = [
        Event {
            wall_time: 1_700_000_000.75,
            version: Some("brain.Event:2".into()),
            ..Event::default()
        },
        Event {
            wall_time: 1_700_000_000.75,
            session: Some(1),
            ..Event::default()
        },
        Event {
            wall_time: 1_700_000_001.5,
            step: 128,
            values: vec![
                ("train/loss".into(), 0.1),
                (long, f32::NEG_INFINITY),
                (String::new(), 0.0),
            ],
            ..Event::default()
        },
        Event {
            wall_time: 1_700_000_002.5,
            step: 1 << 40,
            ..Event::default()
        },
    ];
    assert_eq!(read(log.path()), expected);
}

#[test]
fn a_resumed_run_goes_on_in_a_later_file() {
    let run = tempfile::tempdir().unwrap();
    let first = EventLog::create(run.path(), "h", 5e9, 0).unwrap();
    fs::write(run.path().join(FOLDER).join("notes.9999999999"), "").unwrap();
    // In the same second, and with a clock that went back.
    for (wall_time, seconds) in [(5e9, 5_000_000_001_u64), (7.0, 5_000_000_002)] {
        let resumed = EventLog::create(run.path(), "h", wall_time, 20).unwrap();
        assert_eq!(name(&resumed), format!("{PREFIX}{seconds}.h.20"));
        let events = read(resumed.path());
        // Step 20 stays; 21 is made again.
        assert_eq!((events[1].session, events[1].step), (Some(1), 21));
    }
    assert_eq!(read(first.path())[1].step, 0);
}

#[test]
fn an_early_clock_gives_names_in_order() {
    let run = tempfile::tempdir().unwrap();
    let log = EventLog::create(run.path(), "h", 7.0, 0).unwrap();
    assert_eq!(name(&log), "events.out.tfevents.0000000007.h.0");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let run = tempfile::tempdir().unwrap();
    fs::write(run.path().join(FOLDER), "a file").unwrap();
    let error = EventLog::create(run.path(), "h", 7.0, 0).unwrap_err();
    assert!(error.to_string().contains(FOLDER), "{error}");
}
