ALTER TABLE incompatible MODIFY v JSON;
INSERT INTO incompatible VALUES (3, '{"a": 1}');
