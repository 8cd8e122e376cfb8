//! Legal chunk streams, drawn at random: chunks of several messages mixed, in every form of header.

use super::*;

/// Repeats itself for a seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A chunk stream of [`random_stream`].
struct Lane {
    id: u32,
    time: Option<u32>,
    open: Option<OpenMessage>,
    /// A chunk began like a timestamp that was left out before it: what is meant cannot be told.
    ambiguous: bool,
}

/// A message whose chunks are not all written.
struct OpenMessage {
    whole: Message,
    /// Its first header, then what stands before each later chunk.
    before: Vec<u8>,
    /// The extended timestamp that later chunks do not repeat.
    left_out: Option<[u8; 4]>,
    written: usize,
}

impl Lane {
    fn begin(&mut self, dice: &mut Dice, repeats_time: bool) {
        let length = dice.pick(&[0, 1, 3, 127, 128, 129, 300, 5_000]);
        let data = payload(length, u8::try_from(dice.below(256)).unwrap());
        let field = dice.pick(&[0, 5, 16_777_214, 16_777_215, 16_777_216, 0xffff_fff0]);
        let mut wire = Wire::new(self.id, dice.pick(&[AUDIO, VIDEO]), field, &data);
        wire.form = dice.pick(&[IdForm::Shortest, IdForm::ThreeBytes]);
        wire.format = u8::from(self.time.is_some() && dice.below(2) == 0);
        wire.repeats_time = repeats_time;
        let base = if wire.format == 0 { None } else { self.time };
        let timestamp_ms = base.unwrap_or_default().wrapping_add(field);
        self.time = Some(timestamp_ms);
        self.open = Some(OpenMessage {
            whole: Message {
                type_id: wire.type_id,
                timestamp_ms,
                stream_id: 1,
                payload: data.into(),
            },
            before: wire.header(u32::try_from(length).unwrap()),
            left_out: None,
            written: 0,
        });
    }

    /// Writes the next chunk; returns the message if that was its last.
    fn write(
        &mut self,
        bytes: &mut Vec<u8>,
        chunk_size: usize,
        repeats_time: bool,
    ) -> Option<Message> {
        let open = self.open.as_mut()?;
        let data = &open.whole.payload;
        let end = (open.written + chunk_size).min(data.len());
        bytes.extend(&open.before);
        bytes.extend(&data[open.written..end]);
        if open.written == 0 {
            // An extended timestamp is what follows the header's other fields.
            let id = basic(0, self.id, IdForm::Shortest).len();
            let id = if open.before[0] & 0x3f == 1 { 3 } else { id };
            let fixed = id + if open.before[0] >> 6 == 0 { 11 } else { 7 };
            let extended = open.before.split_off(fixed);
            open.before = basic(3, self.id, IdForm::Shortest);
            match repeats_time {
                true => open.before.extend(extended),
                false => open.left_out = extended.try_into().ok(),
            }
        } else if let Some(field) = open.left_out {
            // Some senders repeat the time itself instead of its step.
            for time in [field, open.whole.timestamp_ms.to_be_bytes()] {
                let mut both = data[open.written..end].iter().zip(time);
                self.ambiguous |= both.all(|(&data, time)| data == time);
            }
        }
        open.written = end;
        let done = end == data.len();
        done.then(|| self.open.take().unwrap().whole)
    }
}

/// A legal byte stream with chunks of several messages mixed, and what must come out of it.
pub(super) fn random_stream(seed: u64) -> (Vec<u8>, Vec<Message>) {
    let seeds = std::iter::successors(Some(seed), |seed| Some(seed.wrapping_add(1)));
    { seeds }.find_map(random_stream_of).unwrap()
}

/// The same; `None` where a reader cannot tell what is meant.
fn random_stream_of(seed: u64) -> Option<(Vec<u8>, Vec<Message>)> {
    let mut dice = Dice(seed);
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    let mut chunk_size = 128;
    let repeats_time = dice.below(2) == 0;
    let lane = |id| Lane {
        id,
        time: None,
        open: None,
        ambiguous: false,
    };
    let mut lanes = [3, 4, 63, 64, 319, 320, 65_599].map(lane);
    for _ in 0..dice.below(200) {
        if dice.below(10) == 0 {
            chunk_size = dice.pick(&[1, 2, 100, 128, 4_096, 65_536]);
            let size = u32::try_from(chunk_size).unwrap();
            bytes.extend(control(message_type::SET_CHUNK_SIZE, size));
            if chunk_size < 4 {
                // `control` writes whole chunks, so it needs a size of at least 4.
                bytes.extend(
                    Wire::new(2, message_type::SET_CHUNK_SIZE, 0, &[0, 0, 0, 100])
                        .chunk_size(chunk_size)
                        .bytes(),
                );
                chunk_size = 100;
            }
        }
        let count = lanes.len();
        let lane = &mut lanes[dice.below(count)];
        if lane.open.is_none() {
            lane.begin(&mut dice, repeats_time);
        }
        expected.extend(lane.write(&mut bytes, chunk_size, repeats_time));
    }
    for lane in &mut lanes {
        while lane.open.is_some() {
            expected.extend(lane.write(&mut bytes, chunk_size, repeats_time));
        }
    }
    let ambiguous = lanes.iter().any(|lane| lane.ambiguous);
    (!ambiguous).then_some((bytes, expected))
}
