//! `GET` in the protocol of redis.

use std::{collections::VecDeque, rc::Rc, time::Instant};

use crate::{
    site::Policy,
    talk::{Talk, Wrong, wrong},
};

/// A connection on which values are asked for. Answers come in order.
pub(crate) struct Resp {
    answer: Rc<[u8]>,
    asked: VecDeque<Instant>,
}

impl Resp {
    /// Every value is this one.
    pub(crate) fn new(value: &[u8]) -> Self {
        Self {
            answer: bulk(value).into(),
            asked: VecDeque::new(),
        }
    }
}

impl Talk for Resp {
    fn greet(&mut self, _: &mut Vec<u8>) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn under_way(&self) -> usize {
        self.asked.len()
    }

    fn ask(&mut self, key: usize, asked: Instant, out: &mut Vec<u8>) {
        out.extend(b"*2\r\n$3\r\nGET\r\n");
        out.extend(bulk(Policy::destination(key).as_bytes()));
        self.asked.push_back(asked);
    }

    fn read(
        &mut self,
        received: &[u8],
        _: &mut Vec<u8>,
        answered: &mut Vec<Instant>,
    ) -> Result<usize, Wrong> {
        let answers = received.chunks_exact(self.answer.len());
        let rest = answers.remainder().len();
        for answer in answers {
            let asked = self.asked.pop_front();
            match asked {
                Some(asked) if *answer == *self.answer => answered.push(asked),
                _ => return wrong(String::from_utf8_lossy(answer)),
            }
        }
        Ok(received.len() - rest)
    }
}

/// Stores a value.
pub(crate) fn set(key: usize, value: &[u8]) -> Vec<u8> {
    let key = bulk(Policy::destination(key).as_bytes());
    [b"*3\r\n$3\r\nSET\r\n", &key[..], &bulk(value)].concat()
}

fn bulk(text: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}
