//! Purpose: hold or release the floating addresses.
//! Box in the picture: floating address (VIP).
//! Invariants: only this crate touches addresses; an address is held only under an unexpired lease.
//! Start reading at: this file.
//! Tested by: nothing yet.
