//! Writes the seeds of the RTMP fuzz targets, from the same builder that the tests use.

use std::fs;
use std::path::Path;

use super::wire::{self, Wire, text};
use crate::rtmp::amf0::{self, Amf0Value};
use crate::rtmp::chunk::message_type;

const AUDIO: u8 = message_type::AUDIO;
const VIDEO: u8 = message_type::VIDEO;

fn write(target: &str, name: &str, head: &[u8], body: &[u8]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tools/fuzz/corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), [head, body].concat()).unwrap();
}

fn chunk_seeds() {
    // Everything admitted, reads of 7 bytes.
    let head = [2, 7];
    let long = Wire::new(4, VIDEO, 40, &[7; 300]).chunks();
    let other = Wire::new(320, AUDIO, 0x0100_0000, &[8; 200]).chunks();
    let mixed = [&long[0], &other[0], &long[1], &other[1], &long[2]].map(Clone::clone);
    write("rtmp_chunk", "interleaved", &head, &mixed.concat());
    let mut bytes = Wire::new(4, VIDEO, 9, b"abc").bytes();
    bytes.extend(Wire::new(4, AUDIO, 20, b"de").format(1).bytes());
    bytes.extend(Wire::new(4, 0, 30, b"fg").format(2).bytes());
    bytes.extend(Wire::new(4, 0, 0, b"hi").format(3).bytes());
    write("rtmp_chunk", "header_types", &head, &bytes);
    for (name, repeats_time) in [("time_repeated", true), ("time_left_out", false)] {
        let mut wire = Wire::new(64, VIDEO, 0x0102_0304, &[1; 300]);
        wire.repeats_time = repeats_time;
        write("rtmp_chunk", name, &head, &wire.bytes());
    }
    let mut bytes = wire::control(message_type::SET_CHUNK_SIZE, 4_096);
    bytes.extend(Wire::new(4, VIDEO, 0, &[0; 500]).chunk_size(4_096).bytes());
    bytes.extend(&long[0]);
    bytes.extend(wire::control(message_type::ABORT, 4));
    bytes.extend(Wire::new(4, VIDEO, 1, b"v").bytes());
    write("rtmp_chunk", "chunk_size_and_abort", &head, &bytes);
    write(
        "rtmp_chunk",
        "before_publish",
        &[0, 1],
        &wire::connect("live"),
    );
}

fn amf0_seeds() {
    let object = Amf0Value::Object(vec![
        ("width".into(), Amf0Value::Number(1280.0)),
        ("stereo".into(), Amf0Value::Boolean(true)),
        ("encoder".into(), text("Lavf59")),
    ]);
    let array = Amf0Value::Array(vec![Amf0Value::Null, Amf0Value::Undefined, object.clone()]);
    let values = [text("onMetaData"), object, array, Amf0Value::Date(1e12)];
    write("amf0", "values", &[], &amf0::encode(&values));
    let mut ecma = vec![0x08, 0, 0, 0, 1, 0, 1, b'k', 0x02, 0, 1, b'v', 0, 0, 9];
    ecma.extend([
        0x0c, 0, 0, 0, 1, b'l', 0x10, 0, 1, b'c', 0, 0, 9, 0x07, 0, 0,
    ]);
    write("amf0", "ecma_long_typed_reference", &[], &ecma);
    let deep = [0x0a, 0, 0, 0, 1].repeat(40);
    write("amf0", "deep", &[], &deep);
}

fn session_seeds() {
    // Reads of 65 bytes, publish accepted, 1 ms a read.
    let head = [4, 3, 1];
    let (setup, media) = super::dialogue();
    let setup = setup.get(wire::handshake().len()..).unwrap();
    write("rtmp_session", "obs", &head, &[setup, &media].concat());
    let slow = [0, 3, 255];
    write("rtmp_session", "slow", &slow, &[setup, &media].concat());
    write("rtmp_session", "rejected", &[255, 0, 1], setup);
    let play = [
        wire::connect("live/room?t=1"),
        wire::command("createStream", 2.0, &[]),
        wire::command("play", 3.0, &[text("room")]),
    ];
    write("rtmp_session", "play", &head, &play.concat());
    let mut aggregate = vec![AUDIO, 0, 0, 1, 0, 0, 9, 0, 0, 0, 0, b'a', 0, 0, 0, 12];
    aggregate.extend([VIDEO, 0, 0, 1, 0, 0, 29, 0, 0, 0, 0, b'v', 0, 0, 0, 12]);
    let mut bytes = setup.to_vec();
    bytes.extend(Wire::new(4, message_type::AGGREGATE, 5, &aggregate).bytes());
    bytes.extend(Wire::new(2, message_type::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4]).bytes());
    write("rtmp_session", "aggregate_and_ping", &head, &bytes);
}

#[test]
#[ignore = "writes files: run by hand after a change of the builder"]
fn seeds_of_the_fuzz_targets_are_written() {
    chunk_seeds();
    amf0_seeds();
    session_seeds();
}
