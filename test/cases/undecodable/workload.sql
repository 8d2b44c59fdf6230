INSERT INTO undecodable VALUES (3, 'c');
INSERT INTO undecodable VALUES (4, _cp1250 X'81');
UPDATE undecodable SET v = 'later' WHERE id = 1;
DELETE FROM undecodable WHERE id = 2;
