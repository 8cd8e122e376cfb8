//! Start and stop of a room, as the operator's back end is told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use crate::kit::clip::LiveClip;
use crate::kit::server::{KitServer, PATIENCE, wait_for};
use crate::program::{Program, command, free_port};
use crate::wait_live;

/// A receiver that answers each request with the next status of a list, and gives the bodies.
fn receiver(statuses: Vec<u16>) -> (String, mpsc::Receiver<(String, serde_json::Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let mut request = Vec::new();
            let body = loop {
                let mut buffer = [0; 4_096];
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str(body)
                {
                    break (text, body);
                }
            };
            let answer =
                format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            let _ = sender.send(body);
        }
    });
    (url, received)
}

#[test]
fn start_and_end_arrive_in_order_with_one_session() {
    let (url, received) = receiver(vec![500, 204, 200]);
    let server = KitServer::start(2, &[("RTMPEER_WEBHOOK__URL", &url)]);
    let clip = LiveClip::publish(server.addresses.rtmp, "hooked");
    wait_live(&server, "hooked", true);
    drop(clip);
    let events: Vec<_> = (0..3)
        .map(|_| received.recv_timeout(PATIENCE).unwrap())
        .collect();
    let kinds: Vec<_> = events
        .iter()
        .map(|(_, body)| body["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["stream.started", "stream.started", "stream.ended"]);
    assert_eq!(events[0].1["id"], events[1].1["id"], "a retry keeps its id");
    assert_eq!(events[1].1["session"], events[2].1["session"]);
    assert_eq!(events[2].1["room"], "hooked");
    assert!(events[0].0.to_lowercase().contains("webhook-id: "));
}

#[test]
fn told_to_stop_twice_the_program_still_says_that_its_streams_ended() {
    let (url, received) = receiver(vec![204, 204]);
    let rtmp = free_port();
    let mut command = command();
    command
        .env("RTMPEER_RTMP__LISTEN", rtmp.to_string())
        .env("RTMPEER_WEBHOOK__URL", &url)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut program = Program(command.spawn().unwrap());
    wait_for("the program", || TcpStream::connect(rtmp).ok());
    let clip = LiveClip::publish(rtmp, "hooked");
    let (_, started) = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(started["type"], "stream.started");
    // Both at once, before it has done anything about the first.
    for signal in [Signal::STOP, Signal::TERM, Signal::INT, Signal::CONT] {
        program.signal(signal);
    }
    let ended = wait_for("its end", || program.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    let (_, ended) = received.recv_timeout(Duration::from_secs(1)).unwrap();
    assert_eq!(ended["type"], "stream.ended");
    assert_eq!(ended["session"], started["session"]);
    drop(clip);
}
