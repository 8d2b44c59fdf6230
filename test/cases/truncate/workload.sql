INSERT INTO truncate_a (v) VALUES (4);
TRUNCATE TABLE truncate_a;
INSERT INTO truncate_a (v) VALUES (5), (6);
TRUNCATE `{schema}`.truncate_b;
/* a comment */ TRUNCATE truncate_a;
INSERT INTO truncate_a (v) VALUES (7);
