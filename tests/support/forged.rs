//! Burnpacks as nobody would write them: tables that say anything about any bytes.

/// A tensor of a forged table: name, shape, first byte and the one behind the last, from the beginning of the data.
pub(crate) type Entry<'a> = (&'a str, &'a [u64], u64, u64);

/// A burnpack of `f32` tensors with exactly this table, these entries of metadata and these bytes of data.
pub(crate) fn burnpack(tensors: &[Entry], metadata: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let mut table = Vec::new();
    head(&mut table, MAP, 2);
    text(&mut table, "tensors");
    head(&mut table, MAP, tensors.len() as u64);
    for (name, shape, start, end) in tensors {
        text(&mut table, name);
        head(&mut table, MAP, 3);
        text(&mut table, "dtype");
        text(&mut table, "F32");
        text(&mut table, "shape");
        head(&mut table, ARRAY, shape.len() as u64);
        for side in *shape {
            head(&mut table, NUMBER, *side);
        }
        text(&mut table, "data_offsets");
        head(&mut table, ARRAY, 2);
        head(&mut table, NUMBER, *start);
        head(&mut table, NUMBER, *end);
    }
    text(&mut table, "metadata");
    head(&mut table, MAP, metadata.len() as u64);
    for (key, value) in metadata {
        text(&mut table, key);
        text(&mut table, value);
    }

    // Magic number, version, length of the table, and the table; the data begins at a multiple of 256.
    let mut file = b"NRUB".to_vec();
    file.extend(1u16.to_le_bytes());
    file.extend((table.len() as u32).to_le_bytes());
    file.extend(table);
    file.resize(file.len().next_multiple_of(256), 0);
    file.extend_from_slice(data);
    file
}

/// Major types of RFC 8949, section 3.1.
const NUMBER: u8 = 0;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// The head of a data item, with its argument in eight bytes.
fn head(out: &mut Vec<u8>, kind: u8, argument: u64) {
    out.push(kind << 5 | 0x1b);
    out.extend(argument.to_be_bytes());
}

fn text(out: &mut Vec<u8>, value: &str) {
    head(out, TEXT, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}
