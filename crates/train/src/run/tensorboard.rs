//! `TensorBoard` event files: the few message fields that scalar curves need, written by hand.
//!
//! An event file is a sequence of framed records (TensorFlow, `tensorflow/core/lib/io/record_writer.cc`):
//! `u64` length, `u32` masked CRC of the length bytes, data, `u32` masked CRC of the data, all little-endian.
//! The CRC is CRC-32C (RFC 3720, appendix B.4), masked as in `tensorflow/core/lib/hash/crc32c.h`:
//! rotated right by 15 bits, plus `0xa282ead8`. The data is an `Event` message of
//! `tensorflow/core/util/event.proto`: field 1 `double wall_time`, field 2 `int64 step`, field 3
//! `string file_version`, field 5 `Summary summary`; `Summary` (`framework/summary.proto`) holds field 1
//! `Value`s, and a `Value` field 1 `string tag`, field 2 `float simple_value`.
//!
//! Bytes only: the run folder writes them. The file starts with [`file_header`]; [`epoch_event`] is appended
//! after each epoch, in a single write, so that a killed run leaves at most one torn record, at which
//! `TensorBoard` stops reading.

use evaluation::metrics_log::EpochRecord;
use model::export::protobuf::Message;

/// The name `TensorBoard` looks for; `started` in seconds since 1970 orders the files of a resumed run.
pub fn file_name(started: u64) -> String {
    format!("events.out.tfevents.{started:010}.kiln")
}

/// The first record of a file, which names the format's version. `wall_time` in seconds since 1970.
pub fn file_header(wall_time: f64) -> Vec<u8> {
    // tensorflow/core/util/events_writer.h: kVersionPrefix, kCurrentVersion
    let event = Message::default().double(1, wall_time).text(3, "brain.Event:2");
    framed(&event.into_bytes())
}

/// The curves of one epoch as a record: the step is the epoch, figures that are not finite are left out.
/// `wall_time` in seconds since 1970.
pub fn epoch_event(wall_time: f64, record: &EpochRecord) -> Vec<u8> {
    let scalars = [
        ("loss/train", record.train_loss),
        ("loss/valid", record.valid_loss),
        ("accuracy/train", record.train_accuracy),
        ("accuracy/valid", record.valid_accuracy),
        // Left out where there is none.
        ("mean_average_precision/valid", record.valid_mean_average_precision.unwrap_or(f64::NAN)),
        ("learning_rate", record.learning_rate),
        ("samples_per_second", record.samples_per_second),
    ];
    scalars_event(wall_time, record.epoch as u64, &scalars)
}

/// Any scalars of one step as a record; see [`epoch_event`].
pub fn scalars_event(wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let finite = scalars.iter().filter(|(_, figure)| figure.is_finite());
    let values = finite.map(|(tag, figure)| Message::default().text(1, tag).float(2, *figure as f32));
    let summary = Message::default().messages(1, values);
    let event = Message::default().double(1, wall_time).integer(2, step).message(5, &summary);
    framed(&event.into_bytes())
}

fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(data);
    record.extend(masked(crc32c(data)).to_le_bytes());
    record
}

/// CRC-32C (Castagnoli), reflected polynomial `0x82f63b78`, bit by bit: a record has some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogues.
    #[test]
    fn crc_equals_the_published_vectors() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        // An iSCSI SCSI Read (10) command descriptor block.
        let mut read_command = [0_u8; 48];
        for (position, byte) in
            [(0, 0x01), (1, 0xc0), (16, 0x14), (22, 0x04), (27, 0x14), (31, 0x18), (32, 0x28), (40, 0x02)]
        {
            read_command[position] = byte;
        }
        let vectors: [(&[u8], u32); 6] = [
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (&read_command, 0xd996_3a56),
            (b"123456789", 0xe306_9283),
        ];
        for (bytes, expected) in vectors {
            assert_eq!(crc32c(bytes), expected, "{bytes:02x?}");
        }
    }

    /// Takes a record off the front: checks both sums and returns its data and the rest.
    fn unframed(file: &[u8]) -> (&[u8], &[u8]) {
        let length = u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize;
        let sum = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("4 bytes"));
        let data = &file[12..12 + length];
        assert_eq!(sum(8), masked(crc32c(&file[..8])));
        assert_eq!(sum(12 + length), masked(crc32c(data)));
        (data, &file[16 + length..])
    }

    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Integer(u64),
        Double(f64),
        Float(f32),
        Bytes(&'a [u8]),
    }

    /// Reads a message by the wire types alone, independent of the writer's field names.
    fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
        fn varint(message: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = message[0];
                *message = &message[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !message.is_empty() {
            let key = varint(&mut message);
            let size = match key & 7 {
                0 => 0,
                1 => 8,
                2 => varint(&mut message) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (bytes, rest) = message.split_at(size);
            message = rest;
            let field = match key & 7 {
                0 => Field::Integer(varint(&mut message)),
                1 => Field::Double(f64::from_le_bytes(bytes.try_into().expect("8 bytes"))),
                2 => Field::Bytes(bytes),
                _ => Field::Float(f32::from_le_bytes(bytes.try_into().expect("4 bytes"))),
            };
            found.push((key >> 3, field));
        }
        found
    }

    #[test]
    fn a_file_decodes_to_what_was_written() {
        let record = EpochRecord {
            epoch: 300,
            train_loss: 0.5,
            train_accuracy: 0.75,
            valid_loss: f64::NAN,
            valid_accuracy: 0.875,
            valid_mean_average_precision: None,
            learning_rate: 0.001,
            samples_per_second: 9000.0,
            seconds: 1.0,
        };
        let file = [file_header(1.5e9), epoch_event(1.5e9 + 0.25, &record)].concat();
        let (header, rest) = unframed(&file);
        assert_eq!(fields(header), [(1, Field::Double(1.5e9)), (3, Field::Bytes(b"brain.Event:2"))]);
        let (event, rest) = unframed(rest);
        assert!(rest.is_empty());
        let event = fields(event);
        assert_eq!(event[..2], [(1, Field::Double(1.5e9 + 0.25)), (2, Field::Integer(300))]);
        let (5, Field::Bytes(summary)) = event[2] else {
            panic!("no summary in {event:?}");
        };
        let scalars: Vec<_> = fields(summary)
            .into_iter()
            .map(|(number, value)| {
                let Field::Bytes(value) = value else { panic!("a value is a message") };
                let value = fields(value);
                let [(1, Field::Bytes(tag)), (2, Field::Float(figure))] = value[..] else {
                    panic!("unexpected fields {value:?}");
                };
                (number, std::str::from_utf8(tag).expect("UTF-8"), figure)
            })
            .collect();
        assert_eq!(
            scalars,
            [
                (1, "loss/train", 0.5),
                (1, "accuracy/train", 0.75),
                (1, "accuracy/valid", 0.875),
                (1, "learning_rate", 0.001),
                (1, "samples_per_second", 9000.0),
            ]
        );
    }

    #[test]
    fn file_names_sort_by_time_and_carry_the_mark() {
        assert_eq!(file_name(1_500_000_000), "events.out.tfevents.1500000000.kiln");
        assert!(file_name(999) < file_name(1_500_000_000));
    }
}
