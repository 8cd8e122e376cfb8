//! T-07 and T-08, and agreement with rml_amf0 on what both can say.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn text(text: &str) -> Amf0Value {
    Amf0Value::String(text.into())
}

/// `depth` containers, each in the one before, opened but not closed.
fn nested(depth: usize, marker: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..depth {
        bytes.push(marker);
        match marker {
            marker::STRICT_ARRAY => bytes.extend([0, 0, 0, 1]),
            marker::ECMA_ARRAY => bytes.extend([0, 0, 0, 1, 0, 1, b'k']),
            _ => bytes.extend([0, 1, b'k']),
        }
    }
    bytes.push(marker::NULL);
    if marker != marker::STRICT_ARRAY {
        for _ in 0..depth {
            bytes.extend([0, 0, marker::OBJECT_END]);
        }
    }
    bytes
}

#[test]
fn every_kind_of_value_is_read() {
    let mut bytes = vec![marker::LONG_STRING, 0, 0, 0, 2, b'h', b'i'];
    bytes.extend([marker::XML_DOCUMENT, 0, 0, 0, 1, b'x']);
    bytes.extend([marker::DATE, 0x40, 0x59, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([marker::REFERENCE, 0, 0, marker::UNSUPPORTED]);
    bytes.extend([marker::UNDEFINED, marker::NULL, marker::BOOLEAN, 7]);
    bytes.extend([marker::TYPED_OBJECT, 0, 1, b'c', 0, 1, b'k', marker::NULL]);
    bytes.extend([0, 0, marker::OBJECT_END]);
    // An ECMA array's count is a hint only.
    bytes.extend([marker::ECMA_ARRAY, 0xff, 0xff, 0xff, 0xff, 0, 1, b'k']);
    bytes.extend([marker::STRING, 0, 1, b'v', 0, 0, marker::OBJECT_END]);
    bytes.extend([marker::STRICT_ARRAY, 0, 0, 0, 0, marker::NULL]);
    assert_eq!(
        decode(&bytes).unwrap(),
        [
            text("hi"),
            text("x"),
            Amf0Value::Date(100.0),
            Amf0Value::Undefined,
            Amf0Value::Undefined,
            Amf0Value::Undefined,
            Amf0Value::Null,
            Amf0Value::Boolean(true),
            Amf0Value::Object(vec![("k".into(), Amf0Value::Null)]),
            Amf0Value::Object(vec![("k".into(), text("v"))]),
            Amf0Value::Array(vec![]),
            Amf0Value::Null,
        ]
    );
}

#[test]
fn text_that_is_not_utf_8_is_replaced() {
    let values = decode(&[marker::STRING, 0, 2, 0xff, b'a']).unwrap();
    assert_eq!(values, [text("\u{fffd}a")]);
}

#[test]
fn t07_nesting_is_read_to_its_limit_and_no_deeper() {
    for marker in [marker::OBJECT, marker::ECMA_ARRAY, marker::STRICT_ARRAY] {
        assert!(decode(&nested(31, marker)).is_ok());
        assert!(decode(&nested(AMF0_DEPTH_MAX, marker)).is_ok());
        for depth in [33, 1_000, 100_000] {
            assert_eq!(decode(&nested(depth, marker)), Err(Amf0Error::TooDeep));
        }
    }
}

#[test]
fn t08_declared_counts_and_lengths_are_not_believed() {
    let array = [marker::STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff, 5, 5, 5];
    assert_eq!(decode(&array), Err(Amf0Error::Truncated));
    let key = [marker::OBJECT, 0xff, 0xff, b'a', b'b'];
    assert_eq!(decode(&key), Err(Amf0Error::Truncated));
    let string = [marker::STRING, 0, 3, b'a', b'b'];
    assert_eq!(decode(&string), Err(Amf0Error::Truncated));
    let long = [marker::LONG_STRING, 0xff, 0xff, 0xff, 0xff, b'a'];
    assert_eq!(decode(&long), Err(Amf0Error::Truncated));
    let nulls = vec![marker::NULL; 60_000];
    assert_eq!(decode(&nulls), Err(Amf0Error::TooManyValues));
    assert!(decode(&nulls[..AMF0_VALUES_MAX]).is_ok());
}

#[test]
fn unknown_markers_are_refused() {
    for byte in [0x04, marker::OBJECT_END, 0x0e, 0x11, 0x12, 0xff] {
        assert_eq!(decode(&[byte]), Err(Amf0Error::Marker(byte)));
    }
}

#[test]
fn prefix_keeps_what_stands_before_the_fault() {
    let mut bytes = encode(&[text("onMetaData")]);
    bytes.extend([
        marker::ECMA_ARRAY,
        0,
        0,
        0,
        2,
        0,
        1,
        b'w',
        marker::BOOLEAN,
        1,
    ]);
    bytes.extend([0, 1, b'h', marker::NUMBER, 0x40]);
    let (values, error) = decode_prefix(&bytes);
    assert_eq!(error, Some(Amf0Error::Truncated));
    assert_eq!(values[1].property("w"), Some(&Amf0Value::Boolean(true)));
}

#[test]
fn rml_amf0_reads_what_we_write() {
    let values = [
        text("connect"),
        Amf0Value::Number(1.5),
        Amf0Value::Object(vec![("k".into(), Amf0Value::Boolean(true))]),
        Amf0Value::Array(vec![Amf0Value::Null, Amf0Value::Undefined]),
    ];
    let mut bytes = std::io::Cursor::new(encode(&values));
    let theirs = rml_amf0::deserialize(&mut bytes).unwrap();
    let object = HashMap::from([("k".to_owned(), rml_amf0::Amf0Value::Boolean(true))]);
    assert_eq!(
        theirs,
        [
            rml_amf0::Amf0Value::Utf8String("connect".into()),
            rml_amf0::Amf0Value::Number(1.5),
            rml_amf0::Amf0Value::Object(object),
            rml_amf0::Amf0Value::StrictArray(vec![
                rml_amf0::Amf0Value::Null,
                rml_amf0::Amf0Value::Undefined
            ]),
        ]
    );
}

fn any_value() -> impl Strategy<Value = Amf0Value> {
    let leaf = prop_oneof![
        (-1e9..1e9).prop_map(Amf0Value::Number),
        any::<bool>().prop_map(Amf0Value::Boolean),
        ".{0,8}".prop_map(Amf0Value::String),
        (0.0..1e12).prop_map(Amf0Value::Date),
        Just(Amf0Value::Null),
        Just(Amf0Value::Undefined),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(("[a-z]{1,5}", inner.clone()), 0..5).prop_map(Amf0Value::Object),
            prop::collection::vec(inner, 0..5).prop_map(Amf0Value::Array),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn values_come_back_as_they_were_written(values in prop::collection::vec(any_value(), 0..6)) {
        prop_assert_eq!(decode(&encode(&values)).unwrap(), values);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(0_u8..20, 0..300)) {
        let _ = decode(&bytes);
        let (values, error) = decode_prefix(&bytes);
        prop_assert_eq!(decode(&bytes), error.map_or(Ok(values), Err));
    }
}
