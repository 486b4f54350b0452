//! The stubs that the example in Go carries are generated from this contract, and not from one of old.

use logwood_proto::v1::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

const STUBS: &str = include_str!("../../../examples/go/logwoodv1/log.pb.go");

/// The bytes of the Go string literals in `source`, one a line.
fn unquote(source: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (literal, _) in source.lines().filter_map(|line| line.trim_start().strip_prefix('"')?.rsplit_once('"')) {
        let mut rest = literal.bytes();
        while let Some(byte) = rest.next() {
            let escaped = if byte == b'\\' { rest.next() } else { None };
            bytes.push(match escaped {
                None => byte,
                Some(b'a') => 7,
                Some(b'b') => 8,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'v') => 11,
                Some(b'f') => 12,
                Some(b'r') => b'\r',
                Some(b'x') => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    let digits = std::str::from_utf8(&digits).expect("ASCII");
                    u8::from_str_radix(digits, 16).expect("two hex digits")
                }
                Some(itself @ (b'"' | b'\\')) => itself,
                Some(other) => panic!("an escape that nobody expected: {other}"),
            });
        }
    }
    bytes
}

#[test]
fn the_stubs_in_go_describe_the_contract_as_it_is() {
    let (_, literal) = STUBS.split_once("_rawDesc = \"\" +\n").expect("the descriptor is in the stubs");
    let (literal, _) = literal.split_once("\n\n").expect("and ends");
    let stubs = FileDescriptorProto::decode(&*unquote(literal)).expect("a descriptor");
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let own = set.file.into_iter().find(|file| file.name() == "logwood/v1/log.proto").expect("the public contract");
    let own = FileDescriptorProto { source_code_info: None, ..own };
    assert!(stubs == own, "run examples/go/generate: its stubs are not those of proto/logwood/v1/log.proto");
}
