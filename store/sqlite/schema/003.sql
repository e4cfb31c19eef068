-- A copy's queue: what one upstream cannot take must not stand in the way of what another can.
ALTER TABLE copies ADD COLUMN queue TEXT NOT NULL DEFAULT '';
CREATE INDEX copies_queue ON copies (queue, due, id);
