-- A value of JSON that no query makes but from a column of this type.
INSERT INTO undecodable_json SELECT 2, JSON_OBJECT('a', v) FROM undecodable_json_source;
UPDATE undecodable_json SET doc = '[1]' WHERE id = 1;
