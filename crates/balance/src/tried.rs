use crate::limits::TRIED_MAX;

/// The servers that one request has tried: a short list without allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    servers: [u16; TRIED_MAX],
    len: u8,
}

impl Tried {
    pub const fn none() -> Self {
        Self {
            servers: [0; TRIED_MAX],
            len: 0,
        }
    }

    /// Adds a server. Past [`TRIED_MAX`] the oldest are forgotten, and may be tried again.
    pub fn add(&mut self, server: usize) {
        if usize::from(self.len) == TRIED_MAX {
            self.servers.rotate_left(1);
            self.len -= 1;
        }
        self.servers[usize::from(self.len)] = server as u16;
        self.len += 1;
    }

    pub fn contains(&self, server: usize) -> bool {
        self.servers[..usize::from(self.len)]
            .iter()
            .any(|s| usize::from(*s) == server)
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest() {
        let mut tried = Tried::none();
        assert!(tried.is_empty() && !tried.contains(0));
        for server in 0..=TRIED_MAX {
            tried.add(server);
            assert!(tried.contains(server));
        }
        assert!(!tried.contains(0));
        assert!((1..=TRIED_MAX).all(|server| tried.contains(server)));
        tried.clear();
        assert!(tried.is_empty() && !tried.contains(3));
    }
}
